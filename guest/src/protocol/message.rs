//! The messages and their codes.

use super::frame::{self, Frame};
use super::wire::{Reader, put_bytes, put_list, put_optional};
use super::{MAGIC, ProtocolError};

/// What the host says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostHello {
    pub version: u32,
    pub build_id: Vec<u8>,
    /// Host time: seconds since 1970 and nanoseconds.
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// What the agent says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentHello {
    pub version: u32,
    pub build_id: Vec<u8>,
    /// As `uname -r`.
    pub kernel: Vec<u8>,
    /// Guest time since the kernel started.
    pub uptime_milliseconds: u64,
}

/// How the sysroot is mounted: the arguments of mount(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub source: Vec<u8>,
    pub file_system: Vec<u8>,
    pub options: Vec<u8>,
    pub read_only: bool,
}

/// A tmpfs on a path of the sysroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temporary {
    pub path: Vec<u8>,
    pub options: Vec<u8>,
}

/// The static address of the first network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub address: [u8; 4],
    pub prefix_length: u8,
    pub gateway: Option<[u8; 4]>,
}

/// The world that commands will see. Without a root they run in the initramfs itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    pub root: Option<Root>,
    pub temporary: Vec<Temporary>,
    pub network: Option<Network>,
    /// Empty: left alone.
    pub host_name: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Run as `/bin/sh -e -c SCRIPT`.
    Script(Vec<u8>),
    Arguments(Vec<Vec<u8>>),
}

/// What a command has as its standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Reads nothing; output and errors are two pipes.
    Null,
    /// Reads what [`HostMessage::Input`] brings; output and errors are two pipes.
    Pipe,
    /// All three are a new pseudo-terminal.
    Terminal { rows: u16, columns: u16 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: u32,
    pub program: Program,
    pub directory: Vec<u8>,
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    pub uid: u32,
    pub gid: u32,
    /// 0: no limit.
    pub time_limit_milliseconds: u64,
    pub input: Input,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Output,
    Error,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Exited(u32),
    Signalled(u32),
    TimedOut,
    NotStarted(Vec<u8>),
}

/// What one program's processes cost that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProgramUse {
    /// At most 15 bytes, as the kernel keeps it; empty for all others together.
    pub name: Vec<u8>,
    pub processes: u32,
    /// Hundredths of a second of the guest's processor. Each process counts whole ones only.
    pub hundredths: u64,
}

/// From the orchestrator to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMessage {
    Hello(HostHello),
    Setup(Setup),
    Run(Run),
    Input { id: u32, data: Vec<u8> },
    Resize { id: u32, rows: u16, columns: u16 },
    Signal { id: u32, signal: u32 },
    Unmount,
    PowerOff,
    Ping(u64),
}

/// From the agent to the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentMessage {
    Hello(AgentHello),
    Done,
    Output { id: u32, stream: Stream, data: Vec<u8> },
    Exit { id: u32, outcome: Outcome, nanoseconds: u64, programs: Vec<ProgramUse> },
    InputTaken { id: u32, count: u32 },
    Error(Vec<u8>),
    Pong(u64),
}

impl HostMessage {
    /// Appends the message as a frame.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        frame::append(out, self.code(), |out| self.put(out))
    }

    fn code(&self) -> u8 {
        match self {
            HostMessage::Hello(_) => 0x01,
            HostMessage::Setup(_) => 0x02,
            HostMessage::Run(_) => 0x03,
            HostMessage::Input { .. } => 0x04,
            HostMessage::Resize { .. } => 0x05,
            HostMessage::Signal { .. } => 0x06,
            HostMessage::Unmount => 0x07,
            HostMessage::PowerOff => 0x08,
            HostMessage::Ping(_) => 0x09,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            HostMessage::Hello(hello) => {
                out.extend_from_slice(&MAGIC);
                out.extend_from_slice(&hello.version.to_le_bytes());
                put_bytes(out, &hello.build_id);
                out.extend_from_slice(&hello.seconds.to_le_bytes());
                out.extend_from_slice(&hello.nanoseconds.to_le_bytes());
            }
            HostMessage::Setup(setup) => put_setup(out, setup),
            HostMessage::Run(run) => put_run(out, run),
            HostMessage::Input { id, data } => {
                out.extend_from_slice(&id.to_le_bytes());
                put_bytes(out, data);
            }
            HostMessage::Resize { id, rows, columns } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&rows.to_le_bytes());
                out.extend_from_slice(&columns.to_le_bytes());
            }
            HostMessage::Signal { id, signal } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&signal.to_le_bytes());
            }
            HostMessage::Unmount | HostMessage::PowerOff => {}
            HostMessage::Ping(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
    }

    /// # Errors
    /// Any [`ProtocolError`]: the frame is not one that a host may send.
    pub fn decode(frame: &Frame) -> Result<Self, ProtocolError> {
        let payload = &frame.payload;
        let (message, reader) = match frame.code {
            0x01 => {
                let mut r = Reader::new("HostHello", payload);
                if r.array()? != MAGIC {
                    return Err(r.bad("magic"));
                }
                let version = r.u32()?;
                let build_id = r.bytes()?;
                let (seconds, nanoseconds) = (r.i64()?, r.u32()?);
                if nanoseconds >= 1_000_000_000 {
                    return Err(r.bad("nanoseconds"));
                }
                let hello = HostHello { version, build_id, seconds, nanoseconds };
                (HostMessage::Hello(hello), r)
            }
            0x02 => {
                let mut r = Reader::new("Setup", payload);
                (HostMessage::Setup(take_setup(&mut r)?), r)
            }
            0x03 => {
                let mut r = Reader::new("Run", payload);
                (HostMessage::Run(take_run(&mut r)?), r)
            }
            0x04 => {
                let mut r = Reader::new("Input", payload);
                (HostMessage::Input { id: r.u32()?, data: r.bytes()? }, r)
            }
            0x05 => {
                let mut r = Reader::new("Resize", payload);
                (HostMessage::Resize { id: r.u32()?, rows: r.u16()?, columns: r.u16()? }, r)
            }
            0x06 => {
                let mut r = Reader::new("Signal", payload);
                (HostMessage::Signal { id: r.u32()?, signal: r.u32()? }, r)
            }
            0x07 => (HostMessage::Unmount, Reader::new("Unmount", payload)),
            0x08 => (HostMessage::PowerOff, Reader::new("PowerOff", payload)),
            0x09 => {
                let mut r = Reader::new("Ping", payload);
                (HostMessage::Ping(r.u64()?), r)
            }
            code => return Err(ProtocolError::UnknownType(code)),
        };
        reader.end()?;
        Ok(message)
    }
}

fn put_setup(out: &mut Vec<u8>, setup: &Setup) {
    put_optional(out, &setup.root, |out, root| {
        put_bytes(out, &root.source);
        put_bytes(out, &root.file_system);
        put_bytes(out, &root.options);
        out.push(root.read_only.into());
    });
    put_list(out, &setup.temporary, |out, temporary| {
        put_bytes(out, &temporary.path);
        put_bytes(out, &temporary.options);
    });
    put_optional(out, &setup.network, |out, network| {
        out.extend_from_slice(&network.address);
        out.push(network.prefix_length);
        put_optional(out, &network.gateway, |out, gateway| out.extend_from_slice(gateway));
    });
    put_bytes(out, &setup.host_name);
}

fn take_setup(r: &mut Reader<'_>) -> Result<Setup, ProtocolError> {
    let root = r.optional("root", |r| {
        Ok(Root {
            source: r.bytes()?,
            file_system: r.bytes()?,
            options: r.bytes()?,
            read_only: r.bool("read-only flag")?,
        })
    })?;
    let temporary = r.list(|r| Ok(Temporary { path: r.bytes()?, options: r.bytes()? }))?;
    let network = r.optional("network", |r| {
        let address = r.array()?;
        let prefix_length = r.u8()?;
        if prefix_length > 32 {
            return Err(r.bad("prefix length"));
        }
        let gateway = r.optional("gateway", |r| r.array())?;
        Ok(Network { address, prefix_length, gateway })
    })?;
    Ok(Setup { root, temporary, network, host_name: r.bytes()? })
}

fn put_run(out: &mut Vec<u8>, run: &Run) {
    out.extend_from_slice(&run.id.to_le_bytes());
    match &run.program {
        Program::Script(script) => {
            out.push(1);
            put_bytes(out, script);
        }
        Program::Arguments(arguments) => {
            out.push(2);
            put_list(out, arguments, |out, argument| put_bytes(out, argument));
        }
    }
    put_bytes(out, &run.directory);
    put_list(out, &run.environment, |out, (name, value)| {
        put_bytes(out, name);
        put_bytes(out, value);
    });
    out.extend_from_slice(&run.uid.to_le_bytes());
    out.extend_from_slice(&run.gid.to_le_bytes());
    out.extend_from_slice(&run.time_limit_milliseconds.to_le_bytes());
    match run.input {
        Input::Null => out.push(0),
        Input::Pipe => out.push(1),
        Input::Terminal { rows, columns } => {
            out.push(2);
            out.extend_from_slice(&rows.to_le_bytes());
            out.extend_from_slice(&columns.to_le_bytes());
        }
    }
}

fn take_run(r: &mut Reader<'_>) -> Result<Run, ProtocolError> {
    let id = r.u32()?;
    let program = match r.u8()? {
        1 => Program::Script(r.bytes()?),
        2 => Program::Arguments(r.list(Reader::bytes)?),
        _ => return Err(r.bad("program")),
    };
    let directory = r.bytes()?;
    let environment = r.list(|r| Ok((r.bytes()?, r.bytes()?)))?;
    let (uid, gid) = (r.u32()?, r.u32()?);
    let time_limit_milliseconds = r.u64()?;
    let input = match r.u8()? {
        0 => Input::Null,
        1 => Input::Pipe,
        2 => Input::Terminal { rows: r.u16()?, columns: r.u16()? },
        _ => return Err(r.bad("input")),
    };
    Ok(Run { id, program, directory, environment, uid, gid, time_limit_milliseconds, input })
}

impl AgentMessage {
    /// Appends the message as a frame.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        frame::append(out, self.code(), |out| self.put(out))
    }

    fn code(&self) -> u8 {
        match self {
            AgentMessage::Hello(_) => 0x81,
            AgentMessage::Done => 0x82,
            AgentMessage::Output { .. } => 0x83,
            AgentMessage::Exit { .. } => 0x84,
            AgentMessage::InputTaken { .. } => 0x85,
            AgentMessage::Error(_) => 0x86,
            AgentMessage::Pong(_) => 0x87,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            AgentMessage::Hello(hello) => {
                out.extend_from_slice(&MAGIC);
                out.extend_from_slice(&hello.version.to_le_bytes());
                put_bytes(out, &hello.build_id);
                put_bytes(out, &hello.kernel);
                out.extend_from_slice(&hello.uptime_milliseconds.to_le_bytes());
            }
            AgentMessage::Done => {}
            AgentMessage::Output { id, stream, data } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.push(stream.code());
                put_bytes(out, data);
            }
            AgentMessage::Exit { id, outcome, nanoseconds, programs } => {
                out.extend_from_slice(&id.to_le_bytes());
                outcome.put(out);
                out.extend_from_slice(&nanoseconds.to_le_bytes());
                put_list(out, programs, |out, program| {
                    put_bytes(out, &program.name);
                    out.extend_from_slice(&program.processes.to_le_bytes());
                    out.extend_from_slice(&program.hundredths.to_le_bytes());
                });
            }
            AgentMessage::InputTaken { id, count } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
            AgentMessage::Error(text) => put_bytes(out, text),
            AgentMessage::Pong(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
    }

    /// # Errors
    /// Any [`ProtocolError`]: the frame is not one that an agent may send.
    pub fn decode(frame: &Frame) -> Result<Self, ProtocolError> {
        let payload = &frame.payload;
        let (message, reader) = match frame.code {
            0x81 => {
                let mut r = Reader::new("AgentHello", payload);
                if r.array()? != MAGIC {
                    return Err(r.bad("magic"));
                }
                let hello = AgentHello {
                    version: r.u32()?,
                    build_id: r.bytes()?,
                    kernel: r.bytes()?,
                    uptime_milliseconds: r.u64()?,
                };
                (AgentMessage::Hello(hello), r)
            }
            0x82 => (AgentMessage::Done, Reader::new("Done", payload)),
            0x83 => {
                let mut r = Reader::new("Output", payload);
                let id = r.u32()?;
                let stream = Stream::take(&mut r)?;
                (AgentMessage::Output { id, stream, data: r.bytes()? }, r)
            }
            0x84 => {
                let mut r = Reader::new("Exit", payload);
                let id = r.u32()?;
                let outcome = Outcome::take(&mut r)?;
                let nanoseconds = r.u64()?;
                let programs = r.list(|r| {
                    let (name, processes) = (r.bytes()?, r.u32()?);
                    Ok(ProgramUse { name, processes, hundredths: r.u64()? })
                })?;
                (AgentMessage::Exit { id, outcome, nanoseconds, programs }, r)
            }
            0x85 => {
                let mut r = Reader::new("InputTaken", payload);
                (AgentMessage::InputTaken { id: r.u32()?, count: r.u32()? }, r)
            }
            0x86 => {
                let mut r = Reader::new("Error", payload);
                (AgentMessage::Error(r.bytes()?), r)
            }
            0x87 => {
                let mut r = Reader::new("Pong", payload);
                (AgentMessage::Pong(r.u64()?), r)
            }
            code => return Err(ProtocolError::UnknownType(code)),
        };
        reader.end()?;
        Ok(message)
    }
}

impl Stream {
    pub(super) fn code(self) -> u8 {
        match self {
            Stream::Output => 1,
            Stream::Error => 2,
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        match r.u8()? {
            1 => Ok(Stream::Output),
            2 => Ok(Stream::Error),
            _ => Err(r.bad("stream")),
        }
    }
}

impl Outcome {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Exited(status) => {
                out.push(1);
                out.extend_from_slice(&status.to_le_bytes());
            }
            Outcome::Signalled(signal) => {
                out.push(2);
                out.extend_from_slice(&signal.to_le_bytes());
            }
            Outcome::TimedOut => out.push(3),
            Outcome::NotStarted(reason) => {
                out.push(4);
                put_bytes(out, reason);
            }
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        Ok(match r.u8()? {
            1 => Outcome::Exited(r.u32()?),
            2 => Outcome::Signalled(r.u32()?),
            3 => Outcome::TimedOut,
            4 => Outcome::NotStarted(r.bytes()?),
            _ => return Err(r.bad("outcome")),
        })
    }
}
