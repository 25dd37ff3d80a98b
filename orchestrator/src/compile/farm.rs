//! Other machines' distcc servers, for those who have some: they take the jobs for which this
//! machine has no processor free.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::protocol::{
    ProtocolError, read_body, read_number, read_response_head, write_packet, write_request_head,
};

/// Where distcc servers listen, and how many jobs one takes at once, unless something else is said.
const PORT: u16 = 3632;
const SLOTS: u16 = 4;
const MOST_SLOTS: u16 = 1024;

/// A server that does not answer within this time is passed over.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long nobody asks a server that has failed.
const BACK_OFF: Duration = Duration::from_secs(60);

/// A distcc server: `HOST[:PORT][/SLOTS]`, as in `DISTCC_HOSTS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server {
    host: String,
    port: u16,
    slots: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is no distcc server: write HOST, HOST:PORT or HOST:PORT/SLOTS, with 1 to {MOST_SLOTS} slots"
)]
pub struct NoServer(String);

impl FromStr for Server {
    type Err = NoServer;

    fn from_str(text: &str) -> Result<Server, NoServer> {
        let wrong = || NoServer(text.to_owned());
        let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
        let (place, slots) = match text.split_once('/') {
            Some((place, slots)) => (place, number(slots).ok_or_else(wrong)?),
            None => (text, SLOTS),
        };
        // An IPv6 address stands in brackets, because of its colons.
        let (host, port) = match place.rsplit_once(':').filter(|_| !place.ends_with(']')) {
            Some((host, port)) => (host, number(port).ok_or_else(wrong)?),
            None => (place, PORT),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let bad = |byte: u8| !(byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.bytes().any(bad),
        };
        if !is_host || slots > MOST_SLOTS {
            return Err(wrong());
        }
        Ok(Server { host: bare.unwrap_or(host).to_owned(), port, slots })
    }
}

impl TryFrom<String> for Server {
    type Error = NoServer;

    fn try_from(text: String) -> Result<Server, NoServer> {
        text.parse()
    }
}

impl From<Server> for String {
    fn from(server: Server) -> String {
        format!("{server}/{}", server.slots)
    }
}

/// Its address, which tells it from others.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Servers, and who may use them now. All guests of all builds on one store share the slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Farm {
    pub servers: Vec<Server>,
    /// Jobs that this machine compiles at once before others are asked.
    pub local_slots: u16,
    /// Where slots are locked.
    pub locks: PathBuf,
    /// What a server has time for, in seconds; then the job is done here.
    pub limit_seconds: u64,
}

/// Long for a compilation, and short for a server that hangs.
pub const LIMIT_SECONDS: u64 = 300;

/// A place where a job may be compiled; free again when this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    /// `None`: here.
    pub server: Option<&'a Server>,
    _lock: Option<File>,
}

impl Farm {
    /// Here while there is a processor free, then at the first server that has a slot; here, too,
    /// where all are busy.
    pub fn place(&self) -> Place<'_> {
        let here = Place { server: None, _lock: None };
        if self.servers.is_empty() {
            return here;
        }
        if let Some(lock) = self.slot("here", self.local_slots) {
            return Place { _lock: Some(lock), ..here };
        }
        let mut servers = self.servers.iter().filter(|server| !self.has_failed(server));
        let free = servers.find_map(|server| {
            let lock = self.slot(&server.to_string(), server.slots)?;
            Some(Place { server: Some(server), _lock: Some(lock) })
        });
        free.unwrap_or(here)
    }

    fn slot(&self, name: &str, count: u16) -> Option<File> {
        (0..count).find_map(|number| {
            let path = self.locks.join(format!("compile-{name}-{number}.lock"));
            let file = OpenOptions::new().create(true).append(true).open(path).ok()?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
            Some(file)
        })
    }

    /// Lets everybody pass over a server for a while.
    pub fn note_failure(&self, server: &Server) {
        // Where this cannot be written, the server is only asked again too early.
        let _ = fs::write(self.failure(server), b"");
    }

    fn failure(&self, server: &Server) -> PathBuf {
        self.locks.join(format!("compile-{server}-failed.lock"))
    }

    /// Whether it is passed over now.
    pub(super) fn has_failed(&self, server: &Server) -> bool {
        let noted = fs::metadata(self.failure(server)).and_then(|meta| meta.modified());
        noted.is_ok_and(|noted| {
            SystemTime::now().duration_since(noted).is_ok_and(|since| since < BACK_OFF)
        })
    }
}

/// A job for a server: a preprocessed source, to be compiled in the server's own directory.
pub struct RemoteJob<'a> {
    /// The compiler's name there.
    pub compiler: &'a OsStr,
    /// Without input and output.
    pub arguments: &'a [OsString],
    pub source: &'a Path,
    /// `i` or `ii`.
    pub extension: &'a str,
    pub deadline: Instant,
    /// Whose end makes the job pointless.
    pub client: Option<BorrowedFd<'a>>,
    /// More than this is not taken of what comes back, in bytes.
    pub most: u64,
}

/// What a server made, in files of the directory.
pub struct Answer<'a> {
    pub output: &'a Path,
    pub stdout: &'a Path,
    pub stderr: &'a Path,
}

impl Server {
    /// Has the job done. Gives whether it succeeded; what a failed one says is not to be trusted,
    /// as the server may lack the compiler.
    pub fn compile(&self, job: &RemoteJob<'_>, answer: &Answer<'_>) -> Result<bool, ProtocolError> {
        let stream = self.connect()?;
        let connection =
            || Connection { peer: stream.as_fd(), deadline: job.deadline, client: job.client };
        let source = File::open(job.source)?;
        let size = u32::try_from(source.metadata()?.len())
            .map_err(|_| ProtocolError::TooLarge("the source is larger than 4 GiB"))?;
        let mut arguments: Vec<&[u8]> = vec![job.compiler.as_bytes()];
        arguments.extend(job.arguments.iter().map(|argument| argument.as_bytes()));
        let input = format!("input.{}", job.extension);
        arguments.extend([input.as_bytes(), b"-o", b"output"]);
        let mut writer = BufWriter::new(connection());
        write_request_head(&mut writer, &arguments)?;
        write_packet(&mut writer, "DOTI", size, &mut BufReader::new(source))?;
        writer.flush()?;
        drop(writer);

        let mut reader = BufReader::new(connection());
        let status = read_response_head(&mut reader)?;
        let mut left = job.most;
        for (token, path) in
            [("SERR", answer.stderr), ("SOUT", answer.stdout), ("DOTO", answer.output)]
        {
            let length = read_number(&mut reader, token)?;
            left = left
                .checked_sub(u64::from(length))
                .ok_or(ProtocolError::TooLarge("the server sends more than a job may make"))?;
            let mut file = File::create(path)?;
            read_body(&mut reader, length, &mut file)?;
        }
        Ok(status == 0)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_written_as_for_distcc() {
        let read = |text: &str| text.parse::<Server>().map(String::from);
        assert_eq!(read("farm").unwrap(), "farm:3632/4");
        assert_eq!(read("10.0.0.7:4000/16").unwrap(), "10.0.0.7:4000/16");
        assert_eq!(read("[fe80::1]/2").unwrap(), "[fe80::1]:3632/2");
        assert_eq!(read("[::1]:99").unwrap(), "[::1]:99/4");
        for wrong in
            ["", "/3", "a:", "a:0", "a/0", "a/2000", "a/x", "a b", "a,lzo", "@a", "::1", "../a"]
        {
            let said = read(wrong).unwrap_err().to_string();
            assert!(said.contains("HOST:PORT/SLOTS"), "{wrong}: {said}");
        }
    }

    #[test]
    fn others_are_asked_when_this_machine_is_busy_and_a_failed_one_is_not() {
        let locks = tempfile::tempdir().unwrap();
        let servers: Vec<Server> = ["a/1", "b/2"].map(|text| text.parse().unwrap()).into();
        let farm = Farm { servers, local_slots: 1, locks: locks.path().into(), limit_seconds: 1 };
        let name = |place: &Place<'_>| place.server.map(ToString::to_string);
        let all: Vec<Place<'_>> = (0..5).map(|_| farm.place()).collect();
        let names: Vec<_> = all.iter().map(name).collect();
        let (a, b) = (Some("a:3632".to_owned()), Some("b:3632".to_owned()));
        assert_eq!(names, [None, a, b.clone(), b.clone(), None]);
        drop(all);
        let _here = farm.place();
        farm.note_failure(&farm.servers[0]);
        assert_eq!(name(&farm.place()), b);
    }
}
