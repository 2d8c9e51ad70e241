//! The real data set, where FISHMASK_CIFAR10_DIR names a folder that holds it in any layout. The folder is
//! only read: what is converted is stored in a temporary one.

use std::path::Path;
use std::time::Instant;

use fishmask::data::{DataSource, Dataset, Options, Progress, load};

fn timed(dir: &Path) -> Dataset {
    let options = Options { data_dir: dir.into(), offline: true, ..Options::default() };
    let start = Instant::now();
    let data = load(DataSource::Cifar10, &options, &mut |event| {
        if let Progress::Note(line) = event {
            println!("{line}");
        }
    });
    println!("{}: {:.2} s", dir.display(), start.elapsed().as_secs_f64());
    data.unwrap()
}

#[test]
fn cifar10_reads_the_same_from_its_source_and_from_the_store() {
    let Some(source) = std::env::var_os("FISHMASK_CIFAR10_DIR") else {
        println!("skipped: FISHMASK_CIFAR10_DIR is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let target = std::fs::canonicalize(entry.path()).unwrap();
        std::os::unix::fs::symlink(target, dir.path().join(entry.file_name())).unwrap();
    }
    let first = timed(dir.path());
    let second = timed(dir.path());
    assert!(first == second, "the stored copy differs from its source");
    assert_eq!((first.set().name, first.train.len(), first.test.len()), ("CIFAR-10", 50_000, 10_000));

    // The statistics of docs/METHOD.md ("Data") are those of these very pixels, rounded to two digits.
    let (mut sum, mut squares) = ([0_u64; 3], [0_u64; 3]);
    for pixel in first.train.images.chunks_exact(3) {
        for c in 0..3 {
            sum[c] += u64::from(pixel[c]);
            squares[c] += u64::from(pixel[c]).pow(2);
        }
    }
    let n = (first.train.images.len() / 3) as f64;
    for c in 0..3 {
        let mean = sum[c] as f64 / n;
        let std = (squares[c] as f64 / n - mean * mean).sqrt();
        assert!((mean - f64::from(first.set().pixels.mean[c])).abs() < 0.011, "{mean}");
        assert!((std - 1.0 / f64::from(first.set().pixels.inverse_std[c])).abs() < 0.011, "{std}");
    }
}
