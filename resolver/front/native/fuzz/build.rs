//! Has the crate built as it is for fuzzing: without its Python side, with `targets/`.

fn main() {
    println!("cargo::rustc-cfg=fuzzing");
    println!("cargo::rerun-if-changed=build.rs");
}
