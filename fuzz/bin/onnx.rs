#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nestling_fuzz::targets::onnx(data));
