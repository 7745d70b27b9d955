//! The products of single layers, in every instruction set that this processor has.
//! `cargo bench --bench kernels`

mod works;

use criterion::{Criterion, Throughput};
use nestling::kernels::Kernels;
use nestling::kernels::tile::Tile;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    for layer in works::layers() {
        for tile in Tile::all() {
            let mut bench = works::Bench::new(Kernels::Packed(tile), &layer);
            let mut group = criterion.benchmark_group(layer.name);
            group.throughput(Throughput::Elements(bench.macs()));
            group.bench_function(format!("forward/{}", tile.name()), |b| b.iter(|| bench.forward()));
            group.bench_function(format!("weight gradient/{}", tile.name()), |b| b.iter(|| bench.weight_grad()));
            group.bench_function(format!("input gradient/{}", tile.name()), |b| b.iter(|| bench.input_grad()));
            group.finish();
        }
    }
    criterion.final_summary();
}
