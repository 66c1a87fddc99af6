//! The names that frames refer to: makes frames of functions that an interpreter runs, retains
//! names while a window has frames of them, and hands them to a closed window.

use profile::{CodeNameId, Frame, InterpretedLanguage, Pid, Window};

use super::code_name_gap::CodeNameGap;
use super::code_names::CodeName;
use super::executable::WindowExecutables;
use super::process_table::Processes;

impl Processes {
    /// Returns the frame of a function that an interpreter runs in a process, whose owner pays for
    /// the name. `name`: with the line that runs or calls; `None` if it is not known.
    ///
    /// Frames of all processes with equal names are equal. A name is retained for the window that
    /// the frame is counted in ([`Self::mark_code_name_sampled`]), so a frame is made when it is
    /// counted.
    pub fn interpreted_frame(
        &mut self,
        language: InterpretedLanguage,
        pid: Pid,
        name: Option<CodeName>,
    ) -> Frame {
        let owner = self.owner_of(pid);
        let id = name.map(|name| self.perf_maps.names.intern(owner, name));
        Frame::interpreted(language, id)
    }

    /// Returns the frame of a function whose name may arrive before the window is complete. Its
    /// name is then set by [`Self::set_code_name`].
    pub fn pending_interpreted_frame(&mut self, language: InterpretedLanguage, pid: Pid) -> Frame {
        let owner = self.owner_of(pid);
        let id = self.perf_maps.names.add(None, owner, Err(CodeNameGap::NotReceived));
        Frame::interpreted(language, id)
    }

    /// Sets a name that was not known.
    pub fn set_code_name(&mut self, id: CodeNameId, name: CodeName) {
        self.perf_maps.names.set(id, Ok(name));
    }

    /// Retains a name until a window is complete, because it has frames of that name.
    pub fn mark_code_name_sampled(&mut self, id: CodeNameId, window: u64) {
        self.perf_maps.names.mark_sampled(id, window);
    }

    /// Removes names without frames in a window from `oldest` on, and what is left of processes
    /// that are gone.
    pub fn remove_unused_code_names(&mut self, oldest: u64) {
        let gone = self.perf_maps.pids().filter(|pid| !self.by_pid.contains_key(pid));
        let gone: Vec<Pid> = gone.collect();
        gone.into_iter().for_each(|pid| self.perf_maps.remove(pid));
        self.interpreters.retain(|pid| self.by_pid.contains_key(pid));
        self.perf_maps.remove_unused(oldest);
    }

    /// Returns the executables and the names that a window has frames in.
    pub fn of_window(&self, window: &Window) -> WindowExecutables {
        let ids = window.frames().filter_map(|frame| frame.code_name);
        let code_names = ids.map(|id| (id, self.code_name(id))).collect();
        let knows_kernel_code = self.kernel_symbols.is_complete();
        WindowExecutables { knows_kernel_code, ..self.executables.of_window(window, code_names) }
    }

    fn code_name(&self, id: CodeNameId) -> Result<CodeName, CodeNameGap> {
        let (name, process) = self.perf_maps.names.get(id).ok_or(CodeNameGap::NoSpace)?;
        name.map_err(|last| process.map_or(last, |pid| self.perf_maps.gap(pid, last)))
    }
}

#[cfg(test)]
mod tests {
    use profile::{FileAddr, MappingKind, StackEnd, Task, Tid};

    use super::*;
    use crate::processes::Executables;

    const PYTHON: InterpretedLanguage = InterpretedLanguage::Python;
    const PID: Pid = Pid(7);

    fn window(frames: &[Frame]) -> Window {
        let task = Task {
            pid: PID,
            tid: Tid(7),
            comm: "p".into(),
            thread: "t".into(),
            cgroup_id: 1,
            labels: Default::default(),
        };
        let mut window = Window::new(1 << 20);
        let ends = (StackEnd::Absent, StackEnd::Complete);
        window.add(task, frames, ends, false).expect("space");
        window
    }

    #[test]
    fn interpreted_frames_are_named_in_the_executable_of_their_language() {
        let mut processes = Processes::new(Executables::new(0, 1 << 20, ""));
        let name = CodeName {
            name: "Server.serve".into(),
            file: "/srv/app.py".into(),
            line: 12,
            start_line: 10,
        };
        let mut frame = |pid, name| processes.interpreted_frame(PYTHON, pid, name);
        let named = frame(PID, Some(name.clone()));
        assert_eq!(named, frame(Pid(8), Some(name.clone())), "in any process");
        let unnamed = frame(PID, None);
        assert_eq!((unnamed.code_name, unnamed.address), (None, FileAddr(0)));
        let late = processes.pending_interpreted_frame(PYTHON, PID);
        let lost = processes.pending_interpreted_frame(PYTHON, PID);
        let id = |frame: Frame| frame.code_name.expect("space");
        processes.set_code_name(id(late), CodeName { line: 13, ..name.clone() });
        let found = processes.of_window(&window(&[named, unnamed, late, lost]));
        assert_eq!(found.code_name(id(named)), Ok(&name));
        assert_eq!(found.code_name(id(late)).map(|name| name.line), Ok(13));
        assert_eq!(found.code_name(id(lost)), Err(CodeNameGap::NotReceived));
        let executable = found.get(PYTHON.executable());
        assert_eq!(executable.kind(), MappingKind::Interpreted(PYTHON));
        assert!(!executable.may_be_jit_code());
    }
}
