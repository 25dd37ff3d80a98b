#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outcrop_fs::transport::hostile::guest(bytes));
