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
fn a_command_is_cut_into_words_before_it_gets_its_directory() {
    let dir = std::env::temp_dir().join(format!("ursula bench {}", std::process::id()));
    let args = OwnServerArgs {
        server: "a {port}  b:{port2} c:{port3} --dir={dir}/x".into(),
        dir: dir.clone(),
        ready: "/".into(),
        root: "/".into(),
    };
    let server = OwnServer::prepare(&args).expect("a directory and ports");
    let [first, second, third] = server.ports;
    assert_eq!(server.authority, format!("127.0.0.1:{first}"));
    let own = server.dir.display();
    let words =
        ["a".to_owned(), first.to_string(), format!("b:{second}"), format!("c:{third}"), format!("--dir={own}/x")];
    assert_eq!(server.command, words);
    drop(server);
    assert!(!dir.exists());
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let dir = std::env::temp_dir();
    let args = OwnServerArgs { server: "true".into(), dir: dir.clone(), ready: "/".into(), root: "/".into() };
    assert!(matches!(OwnServer::prepare(&args), Err(Error::Server { .. })));
    assert!(dir.exists());
}
