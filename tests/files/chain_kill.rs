//! `kill -9` at random moments of writing and pruning: the chain verifies, and holds all that was reported
//! written. And writes that the system refuses.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::support::chain::{ID, Run, names, small, verified};
use fishmask::checkpoint::chain::{Chain, Kind, Values, Velocity, Writer};
use fishmask::checkpoint::{Error, RunLock, atomic};
use fishmask::graph::layout::Layout;
use fishmask::rng::{Purpose, Stream};
use tempfile::tempdir;

/// Where the helper writes; the tests alone set it.
const FOLDER: &str = "FISHMASK_TEST_CHAIN";

/// Some 80 KB, so that a write takes a while.
fn layout() -> Layout {
    let mut layout = small();
    layout.add_parameter("fc.weight".into(), vec![10, 2000], fishmask::graph::Init::Uniform(1.0));
    layout
}

/// No test of its own: writes checkpoint after checkpoint, as a run does that was started again, with a new
/// mask every third and pruned to four every fifth, and prints the epoch of each.
#[test]
#[ignore = "the helper of the tests beside it"]
fn writes_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    if let Err(error) = write(Path::new(&folder)) {
        println!("\nerror: {error}");
        std::process::exit(3);
    }
}

fn write(folder: &Path) -> Result<(), Error> {
    let _lock = RunLock::take(folder)?;
    atomic::remove_leftovers(folder)?;
    let mut run = Run::new(layout());
    let mut writer = Writer::open(folder, ID, &run.layout, Values::F32)?;
    match Chain::read(folder, ID, &run.layout)?.load_latest()? {
        Some(restored) => {
            let Velocity::Kept(velocity) = restored.velocity else { panic!("no velocity") };
            (run.weights, run.running, run.velocity) = (restored.weights, restored.running, velocity);
            (run.mask, run.progress) = (restored.mask.unwrap(), restored.progress);
        }
        None => {
            writer.base(&run.progress, &run.running, run.source())?;
            run.choose(5000);
        }
    }
    writer.mask(&run.mask, &run.running, run.source())?;
    println!("\nbegun");
    loop {
        let epoch = run.progress.at.epoch + 1;
        if epoch.is_multiple_of(3) {
            run.choose(5000);
            writer.mask(&run.mask, &run.running, run.source())?;
        }
        run.train(epoch, 0);
        writer.delta(&run.progress, Some(&run.velocity), &run.running, run.source())?;
        println!("wrote {epoch}");
        if epoch.is_multiple_of(5) {
            Chain::read(folder, ID, &run.layout)?.prune(4)?;
        }
    }
}

fn helper(folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "chain_kill::writes_until_it_is_killed"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn newest(chain: &Chain) -> u32 {
    chain.latest().map_or(0, |c| c.progress.at.epoch)
}

#[test]
fn killed_a_hundred_times_the_chain_verifies() {
    let folder = tempdir().unwrap();
    let mut stream = Stream::new(11, Purpose::Synthetic, 0, 0);
    let (mut leftovers, mut epochs) = (0, 0);
    for trial in 0..100 {
        let mut child = helper(folder.path()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // Some before it has begun, most in the midst of its writes.
        if trial % 10 != 0 {
            while line != "begun\n" {
                line.clear();
                assert!(out.read_line(&mut line).unwrap() > 0, "trial {trial}: it ended before it began");
                assert!(!line.starts_with("error"), "trial {trial}: {line}");
            }
        }
        sleep(Duration::from_micros(u64::from(stream.below(30_000))));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("error"), "trial {trial}: {rest}");
        let reported = rest.lines().filter_map(|l| l.strip_prefix("wrote ")?.parse::<u32>().ok()).max();
        leftovers += names(folder.path()).iter().filter(|name| atomic::is_temporary(name)).count();
        let chain = verified(folder.path(), &layout());
        let newest = newest(&chain);
        // The one being written may be there or not.
        let expected = reported.unwrap_or(epochs);
        assert!(
            (expected..=expected + 1).contains(&newest),
            "trial {trial}: {newest}, and {expected} were reported"
        );
        let deltas = chain.checkpoints().iter().filter(|c| c.kind != Kind::Base).count() as u32;
        assert!(deltas >= newest.min(4), "trial {trial}: only {deltas} of {newest}");
        if newest > 0 {
            chain.load_latest().unwrap();
        }
        epochs = newest;
    }
    println!("{epochs} epochs; {leftovers} of 100 kills left a file half written");
    assert!(
        epochs > 50 && leftovers > 0,
        "{epochs} epochs, {leftovers} half-written files: too few to mean anything"
    );
}

/// Runs the helper with files limited to `blocks` of 512 bytes, until it ends or has written `epochs`: its
/// exit code, none if it had to be killed, and what it said. The signal is ignored, so that writes fail, as
/// on a full disk.
fn limited(folder: &Path, blocks: u32, epochs: u32) -> (Option<i32>, String) {
    let script = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --ignored --exact --nocapture \
         chain_kill::writes_until_it_is_killed"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(env::current_exe().unwrap()).env(FOLDER, folder);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains(&format!("wrote {epochs}\n")) && out.read_line(&mut text).unwrap() > 0 {}
    if text.contains(&format!("wrote {epochs}\n")) {
        child.kill().unwrap();
    }
    (child.wait().unwrap().code(), text)
}

#[test]
fn a_write_that_the_system_refuses_stops_cleanly() {
    let folder = tempdir().unwrap();
    let refused = |before: u32| {
        // 30 KB: less than a base or a delta, more than a mask.
        let (code, text) = limited(folder.path(), 60, before + 1);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains(".safetensors: cannot write it: File too large"), "{text}");
        assert!(!names(folder.path()).iter().any(|name| atomic::is_temporary(name)));
        text
    };
    assert!(refused(0).contains("base-0000"));
    assert_eq!(names(folder.path()), [".lock"]);
    assert_eq!(limited(folder.path(), 2000, 4).0, None);
    let before = newest(&verified(folder.path(), &layout()));
    assert!(before >= 4);
    // The last checkpoint stays as it was, and the run goes on from it once there is room.
    assert!(refused(before).contains(&format!("epoch-{:04}", before + 1)));
    let chain = verified(folder.path(), &layout());
    assert_eq!(newest(&chain), before);
    chain.load_latest().unwrap().unwrap();
    assert_eq!(limited(folder.path(), 2000, before + 2).0, None);
    assert!(newest(&verified(folder.path(), &layout())) >= before + 2);
}
