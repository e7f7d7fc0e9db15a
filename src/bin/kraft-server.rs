//! `kraft-server`: one node of a quorum. All it does itself is to print what the command line asks for.

use std::process::exit;

use kraft::server::cli::{Startup, from_args};
use kraft::server::signals::Signals;
use kraft::server::{logging, output, thread_refused};

fn main() {
    let signals = Signals::install();
    match from_args(std::env::args_os()) {
        Startup::Exit { code, stdout, stderr } => {
            output::complain(&stderr);
            output::answer(stdout);
            exit(code);
        }
        Startup::Run { config, logging } => {
            let code = match signals.and_then(|signals| logging.start().map(|()| signals)) {
                Ok(signals) => kraft::server::run(*config, &signals),
                Err(error) => {
                    let (line, code) = thread_refused(&error);
                    output::complain(&line);
                    code
                }
            };
            logging::flush();
            exit(code);
        }
    }
}
