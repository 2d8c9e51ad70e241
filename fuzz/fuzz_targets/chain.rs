#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fishmask_fuzz::targets::chain(input);
});
