//! `--set`, and its agreement with flags.

use super::{Resolved, contradiction, flags, parse, refusal, resolve, resolved};

#[test]
fn a_set_is_a_flag_by_another_name() {
    let line = "--set network.width=8 --set optimizer.lr=0.05 --set data.set=synthetic --set data.images=all \
                --set mask.kind=random --set workers.count=2 --set workers.shard_data=true";
    let flags =
        "--width 8 --lr 0.05 --data synthetic --train-images all --mask random --workers 2 --shard-data";
    assert_eq!(resolve(line), resolve(flags));
    // Whole numbers are numbers as well, and what is not TOML is a string.
    assert_eq!(resolve("--set optimizer.lr=1").optimizer.lr, 1.0);
    assert_eq!(resolve("--set schedule.peak_epoch=20%").schedule.peak_epoch, 1.6);
    assert_eq!(resolve("--set schedule.final=0.07").schedule.final_share, 0.07);
    assert_eq!(resolve("--set train.seed=18446744073709551615").train.seed, u64::MAX);
}

#[test]
fn the_last_of_two_sets_counts_and_that_is_said() {
    let request = flags("--set train.epochs=3 --set network.width=4 --set train.epochs=5");
    assert_eq!(request.resolve(super::no_gpu).unwrap().config.train.epochs, 5);
    let note = "--set train.epochs=3 is passed over, as --set train.epochs=5 comes later";
    assert_eq!(request.notes, [note]);
}

#[test]
fn a_flag_and_a_set_may_not_contradict_each_other() {
    assert_eq!(resolve("--epochs 3 --set train.epochs=3").train.epochs, 3);
    let text = "--epochs 3 and --set train.epochs=4 contradict each other; give one of them";
    assert_eq!(refusal("--epochs 3 --set train.epochs=4"), text);
}

#[test]
fn sets_that_cannot_be() {
    for (line, text) in [
        ("--set train.epochs", "--set train.epochs: give KEY=VALUE, such as --set train.epochs=3"),
        ("--set =", "--set =: there is no such setting"),
        ("--set zebra=1", "--set zebra=1: there is no such setting"),
        ("--set train.epoch=1", "--set train.epoch=1: there is no such setting; did you mean train.epochs?"),
        ("--set keep_ratio=1", "--set keep_ratio=1: there is no such setting; did you mean mask.keep_ratio?"),
        ("--set mask.keep_ratio=0 --mask fisher", "--set mask.keep_ratio=0: must be above 0 and at most 1"),
        ("--set schedule.final=1.5", "--set schedule.final=1.5: must be from 0 to 1"),
        ("--set mask.keep_ratio=0.1", "--set mask.keep_ratio=0.1: this is for masked runs: give a --mask"),
    ] {
        assert_eq!(refusal(line), text);
    }
    assert!(parse("--set").is_err());
}

#[test]
fn resuming_with_another_set() {
    let text =
        "--set train.epochs=3 contradicts the run, whose config.json has 8; leave it out, or start a new run";
    assert_eq!(contradiction("--set train.epochs=3"), text);
    assert_eq!(resolve("").agrees(&flags("--set train.epochs=8 --peak-epoch 20% --precision auto")), Ok(()));
}

#[test]
fn the_number_of_ranks_is_the_number_of_workers() {
    let two = flags("--mask fisher").with_ranks(2).unwrap().resolve(super::no_gpu).unwrap().config;
    assert_eq!(two, resolve("--mask fisher --workers 2"));
    let error = flags("--workers 3").with_ranks(2).err().unwrap().to_string();
    assert_eq!(error, "--workers 3: mpirun has started 2 processes, which run one worker each");
}

#[test]
fn an_error_known_only_later_is_named_as_typed() {
    let Resolved { config, values, .. } = resolved("--recipe dawn --set train.batch_size=512");
    let error = values.name(config.images(100).unwrap_err()).to_string();
    assert!(error.starts_with("--set train.batch_size=512: larger than the training set"), "{error}");
}
