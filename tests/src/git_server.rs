//! A git server on this machine that can be made to fall silent in the middle of an answer, and that
//! counts who comes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::as_user;

/// Serves repositories below a directory as `git://…/NAME`, until the test's process ends.
pub struct GitServer {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    /// Bytes of each answer after which nothing more is said; 0: everything is said.
    limit: AtomicUsize,
    silent: AtomicBool,
}

impl GitServer {
    pub fn new(directory: &Path) -> GitServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<State>::default();
        let (shared, directory) = (state.clone(), directory.to_owned());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (state, directory) = (shared.clone(), directory.clone());
                state.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(connection.unwrap(), &directory, &state));
            }
        });
        GitServer { address, state }
    }

    pub fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// From now on every answer stops after so many bytes.
    pub fn fall_silent_after(&self, bytes: usize) {
        self.state.silent.store(false, Ordering::SeqCst);
        self.state.limit.store(bytes, Ordering::SeqCst);
    }

    pub fn is_silent(&self) -> bool {
        self.state.silent.load(Ordering::SeqCst)
    }

    /// Goes on with what was not said yet.
    pub fn speak(&self) {
        self.state.limit.store(0, Ordering::SeqCst);
    }
}

/// The protocol of git-daemon: one line that names the service and the repository, then its talk.
fn serve(mut connection: TcpStream, directory: &Path, state: &State) {
    let mut length = [0; 4];
    connection.read_exact(&mut length).unwrap();
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    let mut request = vec![0; length - 4];
    connection.read_exact(&mut request).unwrap();
    let request = String::from_utf8_lossy(&request).into_owned();
    let name = request.split('\0').next().unwrap().split(" /").nth(1).unwrap();
    let place: PathBuf = directory.join(name);
    let mut command = as_user("git");
    command.arg("upload-pack").arg(place).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut asked = connection.try_clone().unwrap();
    let gone = Arc::new(AtomicBool::new(false));
    let left = gone.clone();
    std::thread::spawn(move || {
        // `io::copy` splices, and waits for more than is asked.
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = asked.read(&mut buffer) {
            if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
        left.store(true, Ordering::SeqCst);
    });
    let (mut said, mut buffer) = (0, [0; 4096]);
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        said += count;
        while (1..said).contains(&state.limit.load(Ordering::SeqCst))
            && !gone.load(Ordering::SeqCst)
        {
            state.silent.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
        }
        if count == 0 || connection.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}
