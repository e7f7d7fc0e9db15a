//! `kraft-server`: one node of a quorum. All it does itself is to print what the command line asks for.

use std::process::exit;

use kraft::server::cli::{Startup, from_args};

fn main() {
    match from_args(std::env::args_os()) {
        Startup::Exit { code, stdout, stderr } => {
            print!("{stdout}");
            eprint!("{stderr}");
            exit(code);
        }
        Startup::Run { config, logging } => {
            let lines = logging.start();
            let code = kraft::server::run(*config);
            lines.flush();
            exit(code);
        }
    }
}
