//! Progress of a build on a terminal, in a pipe, or as JSON lines.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use parking_lot::Mutex;

use super::event::{Event, Observer, human_duration, rough_duration};
use crate::output;
use crate::words::counted;

/// The observer that suits stderr: live lines on a terminal, calm lines elsewhere.
pub fn for_stderr() -> Arc<dyn Observer> {
    let live = Live::new();
    // A terminal that cannot redraw (TERM=dumb) would be shown nothing at all.
    if std::io::stderr().is_terminal() && !live.bars.is_hidden() {
        Arc::new(live)
    } else {
        Arc::new(Lines::default())
    }
}

#[derive(Default)]
struct Counts {
    done: usize,
    total: usize,
}

impl Counts {
    fn prefix(&self) -> String {
        format!("[{}/{}]", self.done, self.total)
    }
}

/// One line for each thing that begins or ends.
#[derive(Default)]
pub struct Lines {
    counts: Mutex<Counts>,
}

impl Observer for Lines {
    fn observe(&self, event: Event) {
        let mut counts = self.counts.lock();
        if let Some(line) = line_of(&event, &mut counts) {
            output::say(&line);
        }
    }
}

/// What the whole build is expected to take; `None` where too little is known.
fn forecast(event: &Event) -> Option<String> {
    let &Event::Planned { to_build, guests, seconds, unknown, .. } = event else { return None };
    // Mostly guesses would look like knowledge.
    if unknown.saturating_mul(2) > to_build || to_build == 0 {
        return None;
    }
    let guests = counted(guests as u64, "guest", "guests");
    Some(format!("about {} with {guests}", rough_duration(seconds)))
}

/// The calm line of an event, with the counts brought up to date; `None` where it deserves none.
fn line_of(event: &Event, counts: &mut Counts) -> Option<String> {
    match event {
        Event::Planned { components, cached, to_build, .. } => {
            *counts = Counts { done: 0, total: *to_build };
            let components = counted(*components as u64, "component", "components");
            let forecast = forecast(event).map(|text| format!(", {text}")).unwrap_or_default();
            Some(format!("{components}: {cached} cached, {to_build} to build{forecast}"))
        }
        Event::Progress { .. } => None,
        Event::Notice { text } => Some(text.clone()),
        Event::Fetching { component, source } => Some(format!("{component}: fetching {source}")),
        Event::SourceMissing { component, reason } => {
            Some(format!("{component}: no source: {reason}"))
        }
        Event::Started { component, .. } => {
            Some(format!("{} {component}: started", counts.prefix()))
        }
        Event::GuestReady { component, seconds } => {
            Some(format!("{} {component}: guest ready after {seconds:.1} s", counts.prefix()))
        }
        Event::Step { component, step } => Some(format!("{} {component}: {step}", counts.prefix())),
        Event::Output { .. } => None,
        // A step without compiler calls deserves no line.
        Event::StepDone { report, .. } if report.compiled.sent == 0 => None,
        Event::StepDone { component, report } => {
            Some(format!("{} {component}: {}", counts.prefix(), report.describe()))
        }
        Event::Finished { component, seconds, bytes, .. } => {
            counts.done += 1;
            let took = human_duration(Duration::from_secs_f64(*seconds));
            Some(format!("{} {component}: done in {took}, {bytes} bytes", counts.prefix()))
        }
        Event::Failed { component, seconds, reason, log, .. } => {
            let took = human_duration(Duration::from_secs_f64(*seconds));
            Some(format!(
                "{} {component}: FAILED after {took}: {reason}\nlog: {log}",
                counts.prefix()
            ))
        }
    }
}

/// A line for each running component, redrawn in place, above a summary bar.
pub struct Live {
    bars: MultiProgress,
    state: Mutex<LiveState>,
}

struct LiveState {
    counts: Counts,
    /// Not before it is known what is to be built: a shell has the terminal for itself.
    total: Option<ProgressBar>,
    plan: Planned,
    /// When the build is expected to end.
    end: Arc<Mutex<Option<Instant>>>,
    running: BTreeMap<String, Running>,
}

/// What of a plan is shown until its end.
#[derive(Default)]
struct Planned {
    cached: usize,
    /// At once.
    guests: usize,
    /// Most durations are not known.
    guessed: bool,
}

struct Running {
    bar: ProgressBar,
    step: String,
    since: Instant,
}

impl Live {
    pub fn new() -> Self {
        let state = LiveState {
            counts: Counts::default(),
            total: None,
            plan: Planned::default(),
            end: Arc::default(),
            running: BTreeMap::new(),
        };
        Live { bars: MultiProgress::new(), state: Mutex::new(state) }
    }

    fn plan(&self, state: &mut LiveState, to_build: usize) {
        let total = ProgressBar::new(to_build as u64);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {pos}/{len} built, {elapsed}{left}{msg}")
        {
            let end = state.end.clone();
            let left = move |_: &ProgressState, text: &mut dyn std::fmt::Write| {
                if let Some(end) = *end.lock() {
                    let left = end.saturating_duration_since(Instant::now());
                    let _ = write!(text, "; about {} left", rough_duration(left.as_secs_f64()));
                }
            };
            total.set_style(style.with_key("left", left));
        }
        // Adding a bar draws it.
        let total = self.bars.add(total);
        total.enable_steady_tick(Duration::from_secs(1));
        state.total = Some(total);
    }

    fn begin(&self, state: &mut LiveState, component: &str) {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {prefix:16} {elapsed:>5} {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(component.to_owned());
        bar.set_message("starting a guest");
        let bar = match &state.total {
            Some(total) => self.bars.insert_before(total, bar),
            None => self.bars.add(bar),
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        let running = Running { bar, step: String::new(), since: Instant::now() };
        state.running.insert(component.to_owned(), running);
    }
}

/// What stands behind the bar of a build: what is left, guests, cache hits, failures.
fn standing(event: &Event, plan: &Planned) -> String {
    let &Planned { cached, guests, guessed } = plan;
    let &Event::Progress { failed, running, waiting, seconds_left, critical_path, .. } = event
    else {
        return String::new();
    };
    let mut text = String::new();
    if seconds_left > critical_path && !guessed {
        text += &format!(" (longest chain {})", rough_duration(critical_path));
    }
    text += &format!("; {running} of {}", counted(guests as u64, "guest", "guests"));
    if waiting > 0 {
        text += &format!(", {waiting} built by other processes");
    }
    text += &format!("; {cached} cached");
    if failed > 0 {
        text += &format!("; {failed} FAILED");
    }
    text
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Live {
    fn observe(&self, event: Event) {
        let mut state = self.state.lock();
        match &event {
            Event::Planned { to_build: 0, .. } => {}
            Event::Planned { to_build, cached, guests, .. } => {
                let guessed = forecast(&event).is_none();
                state.plan = Planned { cached: *cached, guests: *guests, guessed };
                self.plan(&mut state, *to_build);
            }
            Event::Progress { seconds_left, .. } => {
                if !state.plan.guessed {
                    let left = Duration::try_from_secs_f64(*seconds_left).unwrap_or_default();
                    *state.end.lock() = Instant::now().checked_add(left);
                }
                if let Some(total) = &state.total {
                    total.set_message(standing(&event, &state.plan));
                }
                return;
            }
            Event::Started { component, .. } => {
                self.begin(&mut state, component);
                return;
            }
            Event::Step { component, step } => {
                if let Some(running) = state.running.get_mut(component) {
                    running.step.clone_from(step);
                    running.bar.set_message(step.clone());
                }
                return;
            }
            Event::GuestReady { .. } => return,
            Event::Output { component, line } => {
                if let Some(running) = state.running.get(component) {
                    running.bar.set_message(format!("{}: {line}", running.step));
                }
                return;
            }
            Event::Finished { component, .. } | Event::Failed { component, .. } => {
                if let Some(running) = state.running.remove(component) {
                    log::debug!("{component} ran for {:?}", running.since.elapsed());
                    running.bar.finish_and_clear();
                }
                if let (Event::Finished { .. }, Some(total)) = (&event, &state.total) {
                    total.inc(1);
                }
            }
            Event::Notice { .. }
            | Event::Fetching { .. }
            | Event::SourceMissing { .. }
            | Event::StepDone { .. } => {}
        }
        let line = line_of(&event, &mut state.counts);
        let Some(line) = line else { return };
        if state.total.is_some() || !state.running.is_empty() {
            let _ = self.bars.println(line);
        } else {
            output::say(line);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let state = self.state.lock();
        for running in state.running.values() {
            running.bar.finish_and_clear();
        }
        if let Some(total) = &state.total {
            total.finish_and_clear();
        }
    }
}

/// Every event as one line of JSON (docs/operations.md).
pub struct JsonLines<W: Write + Send> {
    /// `None` after a failure.
    out: Mutex<Option<W>>,
}

impl<W: Write + Send> JsonLines<W> {
    pub fn new(out: W) -> Self {
        JsonLines { out: Mutex::new(Some(out)) }
    }
}

impl<W: Write + Send> Observer for JsonLines<W> {
    fn observe(&self, event: Event) {
        let Ok(mut line) = serde_json::to_vec(&event) else { return };
        line.push(b'\n');
        let mut out = self.out.lock();
        let Some(writer) = out.as_mut() else { return };
        // A reader that went away, or a full disk, must not end the build.
        if let Err(error) = writer.write_all(&line).and_then(|()| writer.flush()) {
            crate::output::say(format_args!("events are not written any more: {error}"));
            *out = None;
        }
    }
}

/// Several observers as one.
pub struct Several(pub Vec<Arc<dyn Observer>>);

impl Observer for Several {
    fn observe(&self, event: Event) {
        for observer in &self.0 {
            observer.observe(event.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes one write, and no other.
    struct Full<'a>(&'a AtomicUsize);

    impl Write for Full<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(bytes.len()),
                _ => Err(io::ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_that_cannot_be_written_are_given_up() {
        let writes = AtomicUsize::new(0);
        let lines = JsonLines::new(Full(&writes));
        for text in ["a", "b", "c", "d"] {
            lines.observe(Event::Notice { text: text.into() });
        }
        assert_eq!(writes.load(Ordering::Relaxed), 2, "nothing follows a line that may be cut");
    }
}
