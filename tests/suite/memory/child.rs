//! A test that measures its own process, which is one without other tests in it.

use std::process::Command;

/// Runs the test `name` of this binary once more, in a process of its own with `variable` set.
#[track_caller]
pub fn run(name: &str, variable: &str, value: &str) {
    let program = std::env::current_exe().expect("this binary");
    let output = Command::new(program)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .output()
        .expect("a process");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for (at, _) in said.match_indices("measured ") {
        println!("{}", said[at..].lines().next().unwrap_or_default());
    }
    assert!(said.contains("1 passed"), "{value}: {said}");
}

/// Bytes of this process that lie in memory.
pub fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") * 1_024
}
