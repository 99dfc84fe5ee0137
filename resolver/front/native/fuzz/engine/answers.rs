#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| topnode_front::targets::answers(octets));
