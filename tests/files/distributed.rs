//! Communicators within one process, against direct sums; the formulas of their traffic, against counts by
//! hand.

use fishmask::distributed::{Aggregate, Communicator, Error, InProcess, WINDOW, traffic};
use fishmask::rng::{Purpose, Stream};

/// A worker's values, or the base's for `rank` None. Magnitudes differ, so that the order of a sum shows in
/// its bits.
fn values(rank: Option<usize>, length: usize) -> Vec<f32> {
    let index = rank.map_or(1000, |rank| rank as u32);
    let mut stream = Stream::new(7, Purpose::Synthetic, length as u32, index);
    (0..length).map(|i| (stream.normal() * 10_f64.powi(i as i32 % 7 - 3)) as f32).collect()
}

fn merged(size: usize, length: usize, how: Aggregate) -> Vec<f32> {
    let mut base = values(None, length);
    let mut ranks = vec![];
    let mut workers = InProcess::new(size);
    let mut local = |rank| {
        ranks.push(rank);
        Ok(values(Some(rank), length))
    };
    workers.merge(&mut base, how, &mut local).unwrap();
    assert_eq!(ranks, (0..size).collect::<Vec<_>>());
    base
}

#[test]
fn merges_add_changes_in_rank_order() {
    for (size, length) in
        (1..=5).flat_map(|size| [0, 1, 5, 1003].map(|length| (size, length))).chain([(3, 1_000_003)])
    {
        let base = values(None, length);
        let workers: Vec<_> = (0..size).map(|rank| values(Some(rank), length)).collect();
        let [mean, sum] = [Aggregate::Mean, Aggregate::Sum].map(|how| merged(size, length, how));
        for i in 0..length {
            let mut changes = 0.0_f32;
            let mut reference = 0.0_f64;
            let mut magnitude = f64::from(base[i].abs());
            for worker in &workers {
                changes += worker[i] - base[i];
                reference += f64::from(worker[i]) - f64::from(base[i]);
                magnitude += f64::from(worker[i].abs() + base[i].abs());
            }
            let (a, b) = (base[i] + changes / size as f32, base[i] + changes);
            assert_eq!((mean[i].to_bits(), sum[i].to_bits()), (a.to_bits(), b.to_bits()), "{size} {i}");
            // Each of at most 2 W + 2 operations rounds a number of at most `magnitude` to 24 bits.
            let bound = (2 * size + 2) as f64 * magnitude * 2_f64.powi(-24);
            let exact = f64::from(base[i]) + reference;
            assert!((f64::from(sum[i]) - exact).abs() <= bound, "{size} {i}: {} {exact}", sum[i]);
            let exact = f64::from(base[i]) + reference / size as f64;
            assert!((f64::from(mean[i]) - exact).abs() <= bound, "{size} {i}: {} {exact}", mean[i]);
        }
    }
}

#[test]
fn small_integers_merge_exactly() {
    let workers = [[3.0, 2.0, -4.0], [5.0, 2.0, 8.0]];
    for (how, expected) in [(Aggregate::Mean, [4.0, 2.0, 2.0]), (Aggregate::Sum, [7.0, 2.0, 4.0])] {
        let mut base = vec![1.0, 2.0, 0.0];
        InProcess::new(2).merge(&mut base, how, &mut |rank| Ok(workers[rank].to_vec())).unwrap();
        assert_eq!(base, expected, "{how:?}");
    }
}

#[test]
fn gathers_in_rank_order() {
    let all = [vec![1.0, 2.0], vec![], vec![3.0]];
    let mut seen = vec![];
    let mut workers = InProcess::new(3);
    let visit = &mut |rank: usize, values: &[f32]| seen.push((rank, values.to_vec()));
    workers.all_gather(&[2, 0, 1], &mut |rank| Ok(all[rank].clone()), visit).unwrap();
    assert_eq!(seen, all.into_iter().enumerate().collect::<Vec<_>>());
}

#[test]
fn vectors_go_to_the_root_in_pieces_and_back() {
    let length = 2 * WINDOW + 3;
    let vector = values(Some(1), length);
    let mut workers = InProcess::new(2);
    let (mut pieces, mut joined) = (vec![], vec![]);
    let visit = &mut |piece: &[f32]| {
        pieces.push(piece.len());
        joined.extend_from_slice(piece);
        Ok(())
    };
    workers.fetch(1, length, &mut || Ok(vector.clone()), visit).unwrap();
    assert_eq!(pieces, [WINDOW, WINDOW, 3]);
    assert!(joined == vector);
    let given = workers.give(1, length, &mut || Ok(vector.clone())).unwrap();
    assert!(given.as_ref() == Some(&vector));
    let traffic = workers.traffic();
    assert_eq!([traffic.sent, traffic.received], [4 * length as u64; 2]);
}

#[test]
fn lengths_must_be_those_agreed_on() {
    let refused = |result: Result<(), Error>| result.unwrap_err().to_string();
    let mut workers = InProcess::new(2);
    let mut base = vec![0.0; 4];
    let short = &mut |rank| Ok(vec![0.0; 4 - rank]);
    assert_eq!(
        refused(workers.merge(&mut base, Aggregate::Mean, short)),
        "worker 1 has 3 values where 4 are exchanged"
    );
    assert_eq!(
        refused(workers.all_gather(&[4, 4], short, &mut |_, _| {})),
        "worker 1 has 3 values where 4 are exchanged"
    );
    assert_eq!(
        refused(workers.fetch(1, 2, &mut || Ok(vec![]), &mut |_| Ok(()))),
        "worker 1 has 0 values where 2 are exchanged"
    );
    assert_eq!(
        refused(workers.give(1, 2, &mut || Ok(vec![0.0])).map(drop)),
        "worker 0 has 1 values where 2 are exchanged"
    );
}

#[test]
fn workers_of_one_process_agree() {
    let mut workers = InProcess::new(3);
    assert!(workers.is_root());
    assert_eq!((workers.size(), workers.local()), (3, 0..3));
    assert_eq!(workers.agree("the mask", b"abc", None).unwrap(), None);
    assert_eq!(workers.agree("the mask", b"abc", Some(15)).unwrap(), Some(15));
    let mut bytes = b"weights".to_vec();
    workers.broadcast(&mut bytes).unwrap();
    assert_eq!(bytes, b"weights");
    workers.finish().unwrap();
}

/// Of 10 f32 among 4 ranks, parts are 2, 3, 2 and 3 long. Rank 1 sends 2 + 2 + 3 elements to be added up, and
/// its own 3 to three others: 16 elements. Rank 0 sends 3 + 2 + 3, and 2 to three others: 14.
#[test]
fn traffic_by_hand() {
    assert_eq!(traffic::merge(10, 1, 4), (64, 64));
    assert_eq!(traffic::merge(10, 0, 4), (56, 56));
    assert_eq!(traffic::merge(10, 0, 1), (0, 0));
    assert_eq!(traffic::merge(0, 0, 4), (0, 0));
    // Two ranks: half goes each way, twice.
    assert_eq!(traffic::merge(2 * WINDOW, 0, 2), (8 * WINDOW as u64, 8 * WINDOW as u64));
    // Parts of the second window, of a single element, are 0, 0, 1: rank 0 sends it on, and is sent its sum.
    let window = traffic::merge(WINDOW, 0, 3).0;
    assert_eq!(traffic::merge(WINDOW + 1, 0, 3), (window + 4, window + 4));
    assert_eq!(traffic::all_gather(&[10, 4, 1], 1), (2 * 16, 44));
    assert_eq!(traffic::agree(3), (72, 72));
    assert_eq!((traffic::broadcast(5, 0, 3), traffic::broadcast(5, 2, 3)), ((26, 0), (0, 13)));
    assert_eq!([0, 1, 2].map(|rank| traffic::fetch(5, 1, rank)), [(0, 20), (20, 0), (0, 0)]);

    let mut workers = InProcess::new(4);
    workers.merge(&mut [0.0; 10], Aggregate::Sum, &mut |_| Ok(vec![0.0; 10])).unwrap();
    workers.all_gather(&[1, 2, 3, 4], &mut |rank| Ok(vec![0.0; rank + 1]), &mut |_, _| {}).unwrap();
    workers.barrier().unwrap();
    let traffic = workers.traffic();
    // 56 + 3 * 4 + 3 * 36; 56 + 9 * 4 + 3 * 36.
    assert_eq!((traffic.sent, traffic.received), (176, 200));
    // What every rank sends some rank receives.
    for size in 1..6 {
        for length in [0, 1, 5, WINDOW + 7] {
            let total = (0..size).map(|rank| traffic::merge(length, rank, size));
            let (sent, received) = total.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            assert_eq!((sent, received), ((size - 1) as u64 * 8 * length as u64, sent));
        }
    }
}
