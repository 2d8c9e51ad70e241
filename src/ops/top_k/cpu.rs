//! The k largest scores, exactly. Of keys in the scores' order, a histogram of the upper digit says in which
//! digit the k-th largest lies; what is left of them from there up, little more than k, is read three times
//! more, to find the other digits and to write the indices.
//!
//! Counts are integers, so neither the division of the work nor the threads show in the result.

use rayon::prelude::*;

use super::TopKOps;
use crate::device::simd::vectorised;
use crate::device::{Cpu, Error};

impl TopKOps for Cpu {
    fn top_k(&mut self, scores: &Vec<f32>, n: usize, k: usize) -> Result<Vec<u32>, Error> {
        Ok(top_k(&scores[..n], k))
    }
}

/// Bits of a key below its upper digit, which has 12, and below its middle one, which has as many. Counters
/// of so few digits stay in the first cache level.
const UPPER: u32 = 20;
const MIDDLE: u32 = 8;
const DIGITS: usize = 1 << 12;

/// Scores filtered between two looks at how many there were.
const BLOCK: usize = 64;

/// An integer in [`f32::total_cmp`]'s order.
#[inline(always)]
fn key(score: f32) -> u32 {
    let bits = score.to_bits();
    // All bits of a negative number turn round, else only the sign.
    bits ^ (((bits as i32 >> 31) as u32) | 1 << 31)
}

/// The indices of the `k` largest scores, ascending; of equal ones those of lower index.
///
/// # Panics
/// If `k` exceeds the scores, or an index u32.
fn top_k(scores: &[f32], k: usize) -> Vec<u32> {
    assert!(k <= scores.len() && scores.len() <= u32::MAX as usize, "the {k} largest of {}", scores.len());
    let mut indices = vec![0; k];
    if k == 0 {
        return indices;
    }
    // A few each, as a thread may be late.
    let chunk = scores.len().div_ceil(8 * rayon::current_num_threads()).max(1 << 14);
    let key_of = |&index: &u32| key(scores[index as usize]);

    let counts = sum(scores.par_chunks(chunk).map(upper_digits));
    let (upper, left) = digit_of(&counts, k);
    let least = upper << UPPER;
    let chunks = scores.par_chunks(chunk).enumerate();
    let candidates: Vec<Vec<u32>> = chunks.map(|(i, scores)| at_least(scores, i * chunk, least)).collect();

    // The digit below `shift` of the candidates that begin with `prefix`.
    let next = |prefix: u32, shift: u32, left: usize| {
        let bits = if shift == MIDDLE { UPPER - MIDDLE } else { MIDDLE };
        let count = |indices: &Vec<u32>| {
            let mut counts = vec![0; DIGITS];
            for key in indices.iter().map(key_of).filter(|key| key >> (shift + bits) == prefix) {
                counts[(key >> shift) as usize % (1 << bits)] += 1;
            }
            counts
        };
        let (digit, left) = digit_of(&sum(candidates.par_iter().map(count)), left);
        (prefix << bits | digit, left)
    };
    let (prefix, left) = next(upper, MIDDLE, left);
    // `left` of the scores equal to this one, the first ones, and all above it.
    let (threshold, mut left) = next(prefix, 0, left);

    let count = |indices: &Vec<u32>| {
        let keys = || indices.iter().map(key_of);
        (keys().filter(|&key| key > threshold).count(), keys().filter(|&key| key == threshold).count())
    };
    let counts: Vec<(usize, usize)> = candidates.par_iter().map(count).collect();
    let (mut rest, mut parts) = (indices.as_mut_slice(), vec![]);
    for (above, equal) in counts {
        let equal = equal.min(left);
        left -= equal;
        let (part, behind) = rest.split_at_mut(above + equal);
        parts.push((part, equal));
        rest = behind;
    }
    candidates.par_iter().zip(parts).for_each(|(indices, (part, mut equal))| {
        let chosen = indices.iter().filter(|index| {
            let key = key_of(index);
            let tie = key == threshold && equal > 0;
            equal -= usize::from(tie);
            key > threshold || tie
        });
        part.iter_mut().zip(chosen).for_each(|(to, index)| *to = *index);
    });
    indices
}

/// Counts by digit, added up.
fn sum(counts: impl ParallelIterator<Item = Vec<u32>>) -> Vec<u32> {
    let add = |mut sum: Vec<u32>, counts: Vec<u32>| {
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        sum
    };
    counts.reduce_with(add).unwrap_or_default()
}

/// How many scores have each upper digit. Two counters of each, as many scores in a row may have the same.
fn upper_digits(scores: &[f32]) -> Vec<u32> {
    let mut counts = vec![[0; 2]; DIGITS];
    for pair in scores.chunks(2) {
        for (i, score) in pair.iter().enumerate() {
            counts[(key(*score) >> UPPER) as usize % DIGITS][i] += 1;
        }
    }
    counts.iter().map(|[even, odd]| even + odd).collect()
}

/// The digit of the `k`-th largest, and how many of the keys with that digit are at least it.
fn digit_of(counts: &[u32], k: usize) -> (u32, usize) {
    let mut left = k;
    for (digit, &count) in counts.iter().enumerate().rev() {
        if left <= count as usize {
            return (digit as u32, left);
        }
        left -= count as usize;
    }
    unreachable!("{k} are among those counted")
}

/// Indices, from `base`, of the scores whose keys are at least `least`.
fn at_least(scores: &[f32], base: usize, least: u32) -> Vec<u32> {
    let mut indices = vec![];
    vectorised(
        #[inline(always)]
        || {
            for (block, scores) in scores.chunks(BLOCK).enumerate() {
                let (mut found, mut count) = ([0; BLOCK], 0);
                if !scores.iter().fold(false, |any, &score| any | (key(score) >= least)) {
                    continue;
                }
                for (i, &score) in scores.iter().enumerate() {
                    // Always written, and kept by counting it: there is no foreseeing a branch.
                    found[count % BLOCK] = (base + block * BLOCK + i) as u32;
                    count += usize::from(key(score) >= least);
                }
                indices.extend_from_slice(&found[..count]);
            }
        },
    );
    indices
}
