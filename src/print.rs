//! `println!`, `eprint!` and `eprintln!` for a program at the end of which somebody may stop reading.
//!
//! The standard ones panic when their reader is gone. Here stdout's reader that goes away, as `head`
//! does, has what it wanted: the work goes on, as far as it leaves anything else, and the exit code stays what it
//! would be. On stderr there is only progress, and nothing is lost if nobody reads it.

use std::{
    fmt::Arguments,
    io::{self, Write as _},
};

macro_rules! println {
    ($($text:tt)*) => {{
        $crate::print::line(format_args!($($text)*));
    }};
}

macro_rules! eprint {
    ($($text:tt)*) => { $crate::print::note(format_args!($($text)*)) };
}

macro_rules! eprintln {
    () => { $crate::print::note(format_args!("\n")) };
    ($($text:tt)*) => { $crate::print::note(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line on stdout; whether somebody still reads there. A file that cannot hold it ends the program as unusable
/// input does.
pub fn line(text: Arguments<'_>) -> bool {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => false,
        Err(e) => {
            note(format_args!("error: stdout: {e}\n"));
            std::process::exit(2);
        }
    }
}

/// Text on stderr.
pub fn note(text: Arguments<'_>) {
    let _ = write!(io::stderr(), "{text}");
}
