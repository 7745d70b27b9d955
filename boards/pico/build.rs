fn main() {
    nestling_board_build::build();
    println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    println!("cargo:rustc-link-arg-bins=-Tlink-rp.x");
}
