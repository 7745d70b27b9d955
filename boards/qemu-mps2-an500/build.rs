fn main() {
    nestling_board_build::build();
}
