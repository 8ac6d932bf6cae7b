//! Every mutant can still be planted. That each is found is for `just mutants`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// There are at least so many, beside what chooses one.
const MUTANTS_MIN: usize = 25;

fn patches() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
    let files = fs::read_dir(folder).expect("mutants").map(|file| file.expect("a file").path());
    let mut patches: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|end| end == "patch")).collect();
    patches.sort();
    patches
}

#[test]
fn every_patch_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (patches, copy) = (patches(), TempDir::new().expect("a folder"));
    assert!(patches.len() > MUTANTS_MIN, "{patches:?}");
    let texts: Vec<String> = patches.iter().map(|patch| fs::read_to_string(patch).expect("a patch")).collect();
    let files: BTreeSet<&str> =
        texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("+++ b/")).collect();
    for file in files {
        let to = copy.path().join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(root.join(file), to).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    for (patch, text) in patches.iter().zip(&texts) {
        let name = patch.file_stem().and_then(|name| name.to_str()).expect("a name");
        let name = name.split_once('-').expect("a number before the name").1;
        assert!(name == "choose" || text.contains(&format!("mutant(\"{name}\")")), "{name} does not ask for itself");
        let applied = Command::new("git").arg("apply").arg(patch).current_dir(&copy).output().expect("git");
        assert!(applied.status.success(), "{}: {applied:?}", patch.display());
    }
}
