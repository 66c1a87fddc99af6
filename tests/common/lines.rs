//! What a program prints, while it runs.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The text that comes through a pipe or from a terminal. A thread reads it, so that the program
/// never waits.
pub struct Lines {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Lines {
    /// Begins to read.
    pub fn of(mut source: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let read = move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut bytes) {
                shared.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        };
        Self { text, reader: thread::spawn(read) }
    }

    /// Returns the text so far.
    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Waits for the end. Returns the whole text.
    pub fn finish(self) -> String {
        self.reader.join().unwrap();
        Arc::into_inner(self.text).unwrap().into_inner().unwrap()
    }
}
