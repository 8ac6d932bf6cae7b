//! Compiles the contract with a compiler written in Rust, so that no `protoc` has to be installed.

const FILES: [&str; 4] = ["admin.proto", "node.proto", "peer.proto", "raft.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    FILES.iter().for_each(|file| println!("cargo:rerun-if-changed={file}"));
    let files = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
