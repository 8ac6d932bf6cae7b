//! Commands and directories.

use super::*;

#[test]
fn a_template_gets_its_directory_and_ports() {
    let ports = free_ports().expect("ports");
    assert_eq!(ports.into_iter().collect::<std::collections::BTreeSet<_>>().len(), PORTS);
    let text = fill_in("a:{port} b:{port2} c:{port3} --dir={dir}/x", Path::new("/some/where"), [1, 2, 3]);
    assert_eq!(text, "a:1 b:2 c:3 --dir=/some/where/x");
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let dir = std::env::temp_dir();
    let args = OwnServerArgs { server: "true".into(), dir: dir.clone(), ready: "/".into(), root: "/".into() };
    assert!(matches!(OwnServer::prepare(&args), Err(Error::Server { .. })));
    assert!(dir.exists());
}
