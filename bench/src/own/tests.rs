//! Commands and directories.

use super::*;

#[test]
fn a_command_gets_its_directory_and_ports() {
    let (port, words) =
        command("a {port}  b:{port2} c:{port3} --dir={dir}/x", Path::new("/some/where")).expect("ports");
    assert_eq!((words[0].as_str(), words[1].as_str()), ("a", port.to_string().as_str()));
    assert_eq!(words[4], "--dir=/some/where/x");
    let ports: std::collections::BTreeSet<_> = ["", "b:", "c:"]
        .iter()
        .zip(&words[1..4])
        .map(|(mark, word)| word.strip_prefix(mark).and_then(|port| port.parse::<u16>().ok()).expect("a port"))
        .collect();
    assert_eq!(ports.len(), 3);
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let dir = std::env::temp_dir();
    let args = OwnServerArgs { server: "true".into(), dir: dir.clone(), ready: "/".into(), root: "/".into() };
    assert!(matches!(OwnServer::prepare(&args), Err(Error::Server { .. })));
    assert!(dir.exists());
}
