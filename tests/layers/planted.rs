//! The rules themselves, on small trees that are made up to break them.

use super::{Tree, house, needs};

/// A tree of files, each as its path and its text.
fn tree<const N: usize>(files: [(&str, &str); N]) -> Tree {
    files.map(|(path, text)| (path.into(), text.into())).into()
}

fn rings<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
    needs::rings(&needs::of(&tree(files)))
}

#[test]
fn a_ring_is_named_with_what_ties_it() {
    let found = rings([
        ("src/lib.rs", "pub mod a; pub mod b;"),
        ("src/a.rs", "use crate::b::{self, c::Three as Drei}; fn one() { b::two() } pub struct One;"),
        ("src/b/mod.rs", "pub mod c; pub use c::Three; pub fn two() {}"),
        ("src/b/c.rs", "pub struct Three(super::super::a::One);"),
    ]);
    assert_eq!(found, ["src/a.rs -> src/b/c.rs (Three) -> src/a.rs (One)"]);
}

#[test]
fn a_reexport_leads_to_the_file_that_defines_the_name() {
    let found = rings([
        ("src/lib.rs", "pub mod a; mod b; pub use a::One;"),
        ("src/a/mod.rs", "mod deep; pub use deep::{One, *}; pub use crate::b::Other;"),
        ("src/a/deep.rs", "use crate::b::Other; pub struct One; pub struct Two(Other);"),
        ("src/b.rs", "use super::a; pub struct Other(Box<a::Two>);"),
    ]);
    assert_eq!(found, ["src/a/deep.rs -> src/b.rs (Other) -> src/a/deep.rs (Two)"]);
}

#[test]
fn a_signpost_is_no_need_unless_its_file_mentions_the_name() {
    let (lib, uses) =
        (("src/lib.rs", "mod a; mod b;"), ("src/b.rs", "use crate::a::Top; pub struct One(Top);"));
    let signpost = "pub use crate::b::One; pub struct Top;";
    assert_eq!(rings([lib, uses, ("src/a.rs", signpost)]), [""; 0]);
    let mentions = format!("{signpost} fn takes(one: One) {{}}");
    let found = rings([lib, uses, ("src/a.rs", &mentions)]);
    assert_eq!(found, ["src/a.rs -> src/b.rs (One) -> src/a.rs (Top)"]);
}

#[test]
fn a_folder_may_use_what_its_roof_defines_and_the_roof_the_folder() {
    let (lib, roof) = (("src/lib.rs", "mod a; mod b;"), "mod deep; use deep::One; pub struct Top(One);");
    let deep = ("src/a/deep.rs", "use super::Top; pub struct One(Box<Top>); pub struct Two;");
    assert_eq!(rings([lib, ("src/a/mod.rs", roof), deep]), [""; 0]);
    // Elsewhere it counts.
    let roof = format!("{roof} use crate::b::Other; pub use deep::Two;");
    let other = ("src/b.rs", "use crate::a::Two; pub struct Other(Two);");
    let found = rings([lib, ("src/a/mod.rs", &roof), deep, other]);
    assert_eq!(found, ["src/a/deep.rs -> src/a/mod.rs (Top) -> src/b.rs (Other) -> src/a/deep.rs (Two)"]);
}

#[test]
fn a_module_and_a_function_of_one_name_are_told_apart() {
    let found = rings([
        ("src/lib.rs", "pub mod load; mod fetch; pub use load::{load, Options};"),
        (
            "src/load.rs",
            "use crate::fetch; pub struct Options; pub fn load() { fetch::fetch() } fn fetch() {}",
        ),
        ("src/fetch.rs", "use crate::load::Options; pub fn fetch() {}"),
    ]);
    assert_eq!(found, ["src/fetch.rs -> src/load.rs (Options) -> src/fetch.rs (fetch)"]);
}

#[test]
fn tests_comments_and_texts_need_nothing() {
    let other = ("src/b.rs", "use crate::a::One; pub struct Two;");
    let lib = ("src/lib.rs", "mod a; mod b;");
    for text in [
        "pub struct One; #[cfg(test)] mod tests { use crate::b::Two; }",
        "pub struct One; #[cfg(test)] use crate::b::Two; #[cfg(test)] fn f() -> crate::b::Two { todo!() }",
        "pub struct One; // use crate::b::Two;\n/* crate::b::Two /* and */ crate::b::Two */",
        "pub struct One; const S: &str = r#\"crate::b::Two\"#; const C: char = '\"'; // crate::b::Two",
        "pub struct One; fn f<'a>(x: &'a str) -> char { '\\'' } pub(in crate::b) fn g() {}",
    ] {
        assert_eq!(rings([lib, ("src/a.rs", text), other]), [""; 0], "{text}");
    }
    for text in [
        "pub struct One; #[cfg(not(test))] use crate::b::Two;",
        "pub struct One; mod inner { use super::super::b::Two; }",
        "pub struct One; fn f() { use crate::b; b::Two; }",
        "pub struct One; use crate::b::*; fn f() -> Two { Two }",
        "pub struct One; macro_rules! two { () => { $crate::b::Two } }",
    ] {
        assert_eq!(rings([lib, ("src/a.rs", text), other]).len(), 1, "{text}");
    }
}

#[test]
fn rings_of_includes_are_found() {
    let found = rings([
        ("kernels/conv.cu", "#include \"tiles.cuh\"\n#include \"args/conv.h\"\n"),
        ("kernels/include/tiles.cuh", "#include <cmath>\n#include \"device.cuh\"\n"),
        ("kernels/include/device.cuh", "  #include \"tiles.cuh\"\n"),
    ]);
    let expected = "kernels/include/device.cuh -> kernels/include/tiles.cuh (#include) -> \
                    kernels/include/device.cuh (#include)";
    assert_eq!(found, [expected]);
}

#[test]
fn a_need_of_a_higher_layer_is_named() {
    let tree = tree([
        ("src/lib.rs", "pub mod data; pub mod train; mod odd;"),
        ("src/bin/train.rs", "use fishmask::train::Config;"),
        ("src/data/mod.rs", "use crate::train::Config;"),
        ("src/train/mod.rs", "use crate::data; pub struct Config;"),
        ("src/odd/mod.rs", ""),
    ]);
    let found = house::upward(&tree, &needs::of(&tree));
    assert_eq!(found, ["src/odd belongs to no layer", "src/data/mod.rs -> src/train/mod.rs (Config)"]);
}

#[test]
fn intrinsics_have_one_header() {
    let tree = tree([
        ("kernels/include/device.cuh", "asm volatile(\"bar.sync\"); __syncthreads();"),
        (
            "kernels/conv.cu",
            "__global__ void f() { /* asm */ __shared__ float s[1]; atomicAdd(s, __ldg(p)); }",
        ),
    ]);
    assert_eq!(house::intrinsics(&tree), ["kernels/conv.cu: atomicAdd", "kernels/conv.cu: __ldg"]);
}

#[test]
fn long_lines_long_files_and_absent_documents_are_named() {
    let (line, file) = (format!("// {}", "é".repeat(108)), "//\n".repeat(401));
    let tree = tree([
        ("src/a.rs", line.as_str()),
        ("src/b.rs", file.as_str()),
        ("tests/c.rs", "// https://\n// SPEC section 1\nstruct Spec;\n"),
    ]);
    assert_eq!(house::columns(&tree), ["src/a.rs:1: 111 columns"]);
    assert_eq!(house::length(&tree), ["src/b.rs: 401 lines"]);
    assert_eq!(house::documents(&tree), ["tests/c.rs:2: // SPEC section 1"]);
}
