//! Signals to the real program: none but the two that ask for its end ends it, and the second of these does not wait.

use crate::support::{API, RUN, Request, Setup, within};

/// Signals that end a process which does not listen for them.
const HARMLESS: [&str; 9] = ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "34", "50"];

#[tokio::test]
async fn signals_that_are_not_for_the_gateway_do_not_end_it() {
    let site = Setup::plain().site().await;
    let mut gateway = site.run().await;
    for name in HARMLESS {
        gateway.signal(name);
    }
    gateway.says("signal ignored").await;
    gateway.send(&Request::get(format!("{API}/x"))).await.passed();
    gateway.signal("HUP");
    gateway.says("reload").await;
    assert!(gateway.stop().await.success());
}

/// The start waits for its configuration, a pipe, until the signals have been sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_during_the_start_do_not_end_it() {
    let site = Setup::plain().site().await;
    let text = std::fs::read_to_string(site.config_file()).unwrap();
    let pipe = site.path("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = site.shell(&format!("{RUN} "));
    command.env("CONFIG", &pipe);
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        // Opening it waits until the gateway reads.
        move || (std::fs::File::options().write(true).open(pipe).unwrap(), text)
    });
    let starting = site.run_with(command);
    let send = async {
        let (mut file, text) = tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap();
        let process = readers_of(&pipe);
        for name in ["HUP", "USR1", "USR2", "ALRM"] {
            crate::support::signal(process, name);
        }
        // SIGHUP is not lost: the gateway reads its configuration again, from a file that has taken the place of the pipe.
        std::fs::rename(site.config_file(), &pipe).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    let (mut gateway, ()) = tokio::join!(starting, send);
    gateway.says("configuration reloaded").await;
    assert!(gateway.stop().await.success());
}

/// The process that has this file open for reading.
fn readers_of(path: &std::path::Path) -> u32 {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| *name != own);
    let has_open = |number: &String| {
        let descriptors = std::fs::read_dir(format!("/proc/{number}/fd")).ok();
        descriptors
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
    };
    let mut readers = numbers.filter(|name| name.parse::<u32>().is_ok()).filter(has_open);
    readers.next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_request_to_end_cuts_open_connections() {
    let site = Setup::plain().settings("shutdown.delay = \"1h\"\nshutdown.drain = \"1h\"").site().await;
    for (name, number) in [("TERM", 101), ("INT", 102)] {
        let mut gateway = site.run().await;
        let agent = gateway.agent(number).await;
        let mut held = gateway.connect().await;
        held.write(&agent.poll_request().bytes()).await;
        within("a held poll", gateway.simulator.wait_for_held_polls(1)).await;
        gateway.signal(name);
        gateway.says("not ready").await;
        gateway.signal("INT");
        gateway.says("asked again to end").await;
        held.closed().await;
        assert!(gateway.ended().await.success(), "{name}");
        within("the end of the poll", gateway.simulator.wait_for_no_held_poll()).await;
    }
}
