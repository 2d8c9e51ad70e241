//! The program `train`: `fishmask train` by a shorter name.

#[path = "fishmask/distributed.rs"]
mod distributed;
#[path = "fishmask/finish.rs"]
mod finish;
#[path = "fishmask/images.rs"]
mod images;
#[path = "fishmask/refusal.rs"]
mod refusal;
#[path = "fishmask/resume.rs"]
mod resume;
#[path = "fishmask/stop.rs"]
mod stop;
#[path = "fishmask/train.rs"]
mod train;

fn main() -> std::process::ExitCode {
    train::run(&train::command("train").get_matches())
}
