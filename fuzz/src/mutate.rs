//! Changes of good inputs, drawn from a seeded generator.

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() % n.max(1) as u64) as usize
    }
}

/// Numbers at which arithmetic goes wrong, where it does.
const NUMBERS: [u64; 14] = [
    0,
    1,
    3,
    4,
    255,
    513,
    65_536,
    (1 << 31) - 1,
    (1 << 32) - 1,
    1 << 32,
    (1 << 62) + 1,
    (1 << 63) - 1,
    u64::MAX - 7,
    u64::MAX,
];

/// Inputs are kept below this length.
const LONGEST: usize = 1 << 20;

/// Changes one of the seeds in one to eight places.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8).min(random.below(8)) {
        change(random, &mut input, seeds);
    }
    input.truncate(LONGEST);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let (length, at) = (input.len(), random.below(input.len()));
    let most = if random.below(4) == 0 { length } else { 16 };
    let some = 1 + random.below(most);
    let end = (at + some).min(length);
    match random.below(11) {
        // A bit, a byte.
        0 | 1 if length > 0 => input[at] ^= 1 << random.below(8),
        2 if length > 0 => input[at] = random.draw() as u8,
        // Cut short, or a piece taken out.
        3 => input.truncate(at),
        4 => drop(input.drain(at..end)),
        // A piece of its own again, or one of another seed's over what is there or in between.
        5 => {
            let piece = input[at..end].to_vec();
            let place = random.below(length + 1);
            input.splice(place..place, piece);
        }
        6 | 7 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            let piece = other[from..(from + some).min(other.len())].to_vec();
            let over = if random.below(2) == 0 { 0 } else { piece.len() };
            input.splice(at..(at + over).min(length), piece);
        }
        // A length or an offset: the first eight bytes, binary anywhere, or a number in a text.
        8 => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            let bytes = match random.below(3) {
                0 => number.to_le_bytes().to_vec(),
                1 => (number as u32).to_le_bytes().to_vec(),
                _ => (number as u32).to_be_bytes().to_vec(),
            };
            let place = if random.below(2) == 0 { at } else { random.below(9) };
            let place = place.min(length);
            input.splice(place..(place + bytes.len()).min(length), bytes);
        }
        9 => {
            let digits = |byte: &u8| byte.is_ascii_digit();
            let Some(begin) = input[at..].iter().position(digits).map(|first| at + first) else { return };
            let end = input[begin..].iter().position(|byte| !digits(byte)).map_or(length, |n| begin + n);
            let sign = if random.below(8) == 0 { "-" } else { "" };
            let number = format!("{sign}{}", NUMBERS[random.below(NUMBERS.len())]);
            input.splice(begin..end, number.into_bytes());
        }
        _ => {
            let bytes: Vec<u8> = (0..some.min(64)).map(|_| random.draw() as u8).collect();
            input.splice(at..at, bytes);
        }
    }
}
