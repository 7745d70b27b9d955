fn main() {
    nestling_board_build::build();
    println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
}
