//! The exact text of what a run shows and logs.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fishmask::checkpoint::Moment;
use fishmask::data::{DataSource, Set};
use fishmask::device::Cpu;
use fishmask::mask::Kind;
use fishmask::records::{Bar, DawnLog, Durable, Meter, Metrics, Shown, Table, summary};
use fishmask::settings::{Config, Reasons, Request};
use fishmask::train::{Cause, EpochReport, Error, Event, Exchange, Listener, MaskReport, Outcome, Started};

const REPORT: EpochReport = EpochReport {
    epoch: 1,
    lr: 0.125,
    train_loss: 1.65432,
    train_accuracy: 40.125,
    test_loss: 1.25,
    test_accuracy: 55.0,
    train_seconds: 12.5,
    test_seconds: 1.25,
    total_seconds: 36.0,
    images_per_second: 800.0,
    kept: 412_944,
    exchange: None,
};

/// The default configuration with other settings.
fn with(settings: &[(&str, &str)]) -> Config {
    let request = Request::default().with(settings).unwrap();
    request.resolve(|| Err("no GPU".into())).unwrap().config
}

fn cifar10() -> &'static Set {
    DataSource::Cifar10.set()
}

fn synthetic() -> &'static Set {
    DataSource::Synthetic.set()
}

/// Tells a listener a whole run of two epochs.
fn tell(listener: &mut dyn Listener, data: &'static Set, resumed: Option<Moment>, outcome: &Outcome) {
    let config = Config::default();
    let (path, folder) = (Path::new("runs/a"), Some(Path::new("runs/a")));
    let second = EpochReport { epoch: 2, lr: 0.0, test_accuracy: 100.0, total_seconds: 1234.56, ..REPORT };
    let images = [10_000, 10_000];
    let device = "CPU, 2 threads";
    let (steps, workers, parameters) = (78, &[][..], 412_345);
    let config = &config;
    let started = Started { config, device, data, images, steps, workers, parameters, resumed, folder };
    let started = Event::Started(&started);
    let step = |epoch| Event::Step { epoch, step: 78, steps: 78, images: 128 };
    let checkpoint = Event::Checkpoint(path);
    let ended = Event::Ended { outcome, folder };
    let events = [started, step(1), Event::Epoch(&REPORT), checkpoint, step(2), Event::Epoch(&second), ended];
    events.iter().for_each(|event| listener.hear(event).unwrap());
}

fn finished() -> Outcome {
    Outcome::Finished(EpochReport { epoch: 2, test_accuracy: 75.126, total_seconds: 1234.56, ..REPORT })
}

fn table(data: &'static Set, resumed: Option<Moment>, outcome: &Outcome) -> String {
    let table = Table::new(
        vec![],
        Reasons { device: "auto: no GPU".into(), recipe: "auto: the device is a CPU".into() },
    );
    let mut table = table.resume_by(Box::new(|run| format!("train -r '{}' --offline", run.display())));
    tell(&mut table, data, resumed, outcome);
    String::from_utf8(table.into_inner()).unwrap()
}

#[test]
fn table_of_a_whole_run() {
    let expected = "\
data     CIFAR-10: 10,000 training images, 10,000 test images
device   CPU, 2 threads, f32 (auto: no GPU)
model    resnet9, width 16: 412,345 parameters
recipe   quick (auto: the device is a CPU)
train    8 epochs of 78 steps of 128 images, lr up to 0.2 at epoch 1.6, seed 0
folder   runs/a

                  training           test         seconds of
epoch      lr    loss  correct    loss  correct   train   test   total
    1  0.1250  1.6543   40.12%  1.2500   55.00%    12.5    1.2    36.0
    2  0.0000  1.6543   40.12%  1.2500  100.00%    12.5    1.2  1234.6

75.13% test accuracy on CIFAR-10 in 1234.6 s of training; run: runs/a
";
    assert_eq!(table(cifar10(), None, &finished()), expected);
}

#[test]
fn table_of_the_synthetic_set_names_it_everywhere() {
    let text = table(synthetic(), Some(Moment::new(3, 0)), &finished());
    let lines: Vec<&str> = text.lines().collect();
    let header =
        "data     synthetic (made-up pictures, not CIFAR-10): 10,000 training images, 10,000 test images";
    assert_eq!(lines[0], header);
    assert_eq!(lines[6], "resumed  after epoch 3");
    assert!(lines[9].ends_with("  total data"));
    assert!(lines[10].ends_with("   36.0 synthetic") && lines[11].ends_with(" 1234.6 synthetic"));
    assert!(lines[8..12].iter().all(|line| line.len() <= 80), "rows fit on a terminal of 80 columns");
    assert_eq!(lines[13], "75.13% test accuracy on synthetic in 1234.6 s of training; run: runs/a");
}

#[test]
fn table_of_a_stopped_run_says_how_to_go_on() {
    let limit = Cause::TIME.number();
    for (signal, name) in
        [(2, "SIGINT"), (15, "SIGTERM"), (1, "SIGHUP"), (3, "signal 3"), (limit, "its time limit")]
    {
        let text = table(cifar10(), Some(Moment::new(0, 5)), &Outcome::Interrupted(Cause::new(signal)));
        assert!(text.contains("\nresumed  after step 5 of epoch 1\n\n"));
        let last = format!(
            "\nstopped by {name}; the checkpoint is written; go on with: train -r 'runs/a' --offline\n"
        );
        assert!(text.ends_with(&last), "{text}");
    }
}

#[test]
fn table_and_metrics_of_several_workers() {
    let config = &with(&[("workers.count", "2"), ("workers.masks", "interleaved"), ("mask.kind", "fisher")]);
    let exchange = Exchange {
        merges: 3,
        sent: 1_765_134,
        received: 1_764_552,
        share_of_dense: 35.524,
        waiting_seconds: 0.46,
        exchanging_seconds: 12.34,
    };
    let report = EpochReport { exchange: Some(exchange), ..REPORT };
    let names = ["rank 0 on a".to_string(), "rank 1 on b".to_string()];
    let (mut table, mut metrics) = (Table::new(vec![], Reasons::default()), Metrics::new(vec![]));
    let started = Started {
        config,
        device: "CPU, 2 threads",
        data: cifar10(),
        images: [10_000, 10_000],
        steps: 39,
        workers: &names,
        parameters: 1,
        resumed: None,
        folder: Some(Path::new("runs/a")),
    };
    for event in [Event::Started(&started), Event::Epoch(&report)] {
        table.hear(&event).unwrap();
        metrics.hear(&event).unwrap();
    }
    let text = String::from_utf8(table.into_inner()).unwrap();
    for part in [
        "train    8 epochs of 39 steps of 128 images, ",
        ", square, selected anew every 10 merges\n",
        "workers  2, merged every 100 steps by their mean, each with its own mask: rank 0 on a, \
         rank 1 on b\n",
        "    36.0\n       3 merges: 1.77 MB sent, 1.76 received, 35.52% of dense; 0.5 s waiting, 12.3 \
         exchanging\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let line: serde_json::Value = serde_json::from_slice(&metrics.into_inner()).unwrap();
    assert_eq!(line["exchange"]["sent"], 1_765_134);
    assert_eq!(line["exchange"]["exchanging_seconds"], 12.34);
    assert_eq!(line["workers"], serde_json::json!(["rank 0 on a", "rank 1 on b"]));
}

#[test]
fn table_of_a_masked_run() {
    let show = |settings: &[(&str, &str)], reports: &[MaskReport], outcome: &Outcome| {
        let config = with(settings);
        let mut table = Table::new(vec![], Reasons::default());
        let folder = Some(Path::new("runs/a"));
        let (device, data, images) = ("CPU, 2 threads", cifar10(), [10_000, 10_000]);
        let (steps, workers, parameters, resumed, config) = (78, &[][..], 1, None, &config);
        let started = Started { config, device, data, images, steps, workers, parameters, resumed, folder };
        table.hear(&Event::Started(&started)).unwrap();
        reports.iter().for_each(|report| table.hear(&Event::Mask(report)).unwrap());
        table.hear(&Event::Ended { outcome, folder }).unwrap();
        String::from_utf8(table.into_inner()).unwrap()
    };
    let report = MaskReport {
        epoch: 1,
        kind: Kind::Fisher,
        samples: 1024,
        kept: 131_462,
        weights: 6_573_120,
        stayed: None,
        seconds: 3.12,
    };
    let again = MaskReport { kind: Kind::Random, stayed: Some(65_731), ..report };
    let text = show(&[("mask.kind", "fisher")], &[report, again], &finished());
    assert!(
        text.contains("\nmask     fisher 2%, strict rule, 1024 samples, label, square, fixed\n"),
        "{text}"
    );
    let rows = "
       mask of 131,462 of 6,573,120 weights (2.00%), by 1,024 samples, 3.1 s
       mask of 131,462 of 6,573,120 weights (2.00%), by lot, 50.0% as before, 3.1 s
";
    assert!(text.contains(rows), "{text}");
    let random = [
        ("mask.kind", "random"),
        ("mask.keep_ratio", "0.005"),
        ("mask.warmup_epochs", "2"),
        ("mask.every", "3"),
        ("checkpoint.state", "off"),
    ];
    let text = show(&random, &[], &Outcome::Interrupted(Cause::new(2)));
    let line = "mask     random 0.5%, strict rule, after 2 dense epochs, selected anew every 3 epochs";
    assert!(text.contains(line), "{text}");
    assert!(text.ends_with(
        "\nstopped by SIGINT; without --checkpoint-state the run cannot be resumed; run: runs/a\n"
    ));
}

#[test]
fn metrics_are_one_object_an_epoch() {
    let mut metrics = Metrics::new(vec![]);
    tell(&mut metrics, cifar10(), None, &finished());
    let expected = "\
{\"epoch\":1,\"lr\":0.125,\"train_loss\":1.65432,\"train_accuracy\":40.125,\"test_loss\":1.25,\
\"test_accuracy\":55.0,\"train_seconds\":12.5,\"test_seconds\":1.25,\"total_seconds\":36.0,\
\"images_per_second\":800.0,\"kept\":412944,\"data\":\"CIFAR-10\"}
{\"epoch\":2,\"lr\":0.0,\"train_loss\":1.65432,\"train_accuracy\":40.125,\"test_loss\":1.25,\
\"test_accuracy\":100.0,\"train_seconds\":12.5,\"test_seconds\":1.25,\"total_seconds\":1234.56,\
\"images_per_second\":800.0,\"kept\":412944,\"data\":\"CIFAR-10\"}
";
    assert_eq!(String::from_utf8(metrics.into_inner()).unwrap(), expected);
}

#[test]
fn the_log_is_dawnbench_s() {
    let mut log = DawnLog::new(vec![]);
    tell(&mut log, cifar10(), None, &finished());
    // 36 s are 0.01 h, 1234.56 s are 0.34293333... h.
    let expected = "epoch\thours\ttop1Accuracy\n1\t0.01000000\t55.00\n2\t0.34293333\t100.00\n";
    assert_eq!(String::from_utf8(log.into_inner()).unwrap(), expected);
}

#[test]
fn the_log_of_the_synthetic_set_says_so_on_every_line() {
    let mut log = DawnLog::new(vec![]);
    tell(&mut log, synthetic(), None, &finished());
    let expected = "epoch\thours\ttop1Accuracy\tdata\n1\t0.01000000\t55.00\tsynthetic\n\
                    2\t0.34293333\t100.00\tsynthetic\n";
    assert_eq!(String::from_utf8(log.into_inner()).unwrap(), expected);
}

#[test]
fn a_resumed_log_has_one_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.tsv");
    let open = || fs::File::options().create(true).append(true).open(&path).unwrap();
    tell(&mut DawnLog::append(open()).unwrap(), cifar10(), None, &finished());
    let first = fs::read_to_string(&path).unwrap();
    tell(&mut DawnLog::append(open()).unwrap(), cifar10(), Some(Moment::new(2, 0)), &finished());
    let rows = first.strip_prefix("epoch\thours\ttop1Accuracy\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}{rows}"));
}

/// A writer whose disk is full.
struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Durable for Full {
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_stops_the_run_by_name() {
    assert!(Full.flush().is_ok());
    let event = Event::Epoch(&REPORT);
    let listeners: [(&mut dyn Listener, &str); 3] = [
        (&mut Metrics::new(Full), "metrics.jsonl"),
        (&mut DawnLog::new(Full), "logs.tsv"),
        (&mut Table::new(Full, Reasons::default()), "the table"),
    ];
    for (listener, what) in listeners {
        let error = listener.hear(&event).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write {what}: ")), "{error}");
    }
}

#[test]
fn the_bar_hears_a_run_without_a_terminal() {
    // Its drawing needs a terminal; that it takes every event, and those of a resumed epoch, does not.
    tell(&mut Bar::stderr(), cifar10(), Some(Moment::new(0, 77)), &Outcome::Interrupted(Cause::new(2)));
}

/// Lines that several hands write to.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn without_a_terminal_a_line_says_how_far_it_is_once_in_a_while() {
    let hear = |pulse: Duration| {
        let lines = Lines::default();
        let mut bar = Bar::new(Meter::lines(lines.clone(), pulse));
        tell(&mut bar, cifar10(), None, &finished());
        for event in [Event::Scored { done: 64, samples: 1024 }, Event::Tested { done: 500, images: 10_000 }]
        {
            bar.hear(&event).unwrap();
        }
        let text = lines.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(hear(Duration::from_secs(3600)), "");
    let text = hear(Duration::ZERO);
    let lines: Vec<&str> = text.lines().collect();
    let expected = ["epoch 1/8: 9984/9984 images", "epoch 2/8: 9984/9984 images", "scoring: 64/1024 samples"];
    for (line, expected) in lines.iter().zip(expected.iter().chain([&"testing: 500/10000 images"])) {
        assert!(line.starts_with(expected), "{text}");
    }
    assert_eq!(lines.len(), 4, "{text}");
}

#[test]
fn what_shows_may_fail_and_is_told_nothing_more() {
    struct Counts<'a>(&'a mut usize);
    impl Listener for Counts<'_> {
        fn hear(&mut self, _: &Event) -> Result<(), Error> {
            *self.0 += 1;
            match *self.0 {
                3 => Err(Error::Output { what: "the table", source: ErrorKind::BrokenPipe.into() }),
                _ => Ok(()),
            }
        }
    }
    let mut heard = 0;
    tell(&mut Shown::new(Counts(&mut heard)), cifar10(), None, &finished());
    assert_eq!(heard, 3);
}

#[test]
fn summary_of_the_quick_network() {
    let config = Config::default();
    let mut out = vec![];
    summary::print::<Cpu>(&mut out, &config, 1, 20_000).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "resnet9 of width 16, batch 128");
    // prep: 3x3x3 filters, 32x32 outputs of 16 channels: 2 * 1024 * 16 * 27 = 884,736 operations.
    let prep: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(prep, ["prep_conv", "32x32x16", "432", "0.885"]);
    let norm: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(norm, ["prep_bn", "+", "prep_relu", "32x32x16", "32", "0.000"]);
    let last: Vec<&str> = lines[18].split_whitespace().collect();
    // 128 inputs to ten classes.
    assert_eq!(last, ["linear", "+", "logits", "1x1x10", "1,280", "0.003"]);
    // Filters 9 * (3*16 + 16*32 + 2*32*32 + 32*64 + 64*128 + 2*128*128) = 410,544; scales and shifts
    // 2 * (16 + 3*32 + 64 + 3*128) = 1,120; linear 1,280. Three vectors of 412,944 f32 values are 4.96 MB.
    assert!(text.contains("\nparameters                    412,944\n"), "{text}");
    // 3,072 pixels and a label each.
    assert!(text.contains("\nimages                        61.5 MB\n"), "{text}");
    assert!(text.contains("\ndevice                        cpu, f32\n"), "{text}");
    assert!(text.contains("\nweights, gradients, velocity  5.0 MB\n"), "{text}");
}
