//! The server: see `kraft-server --help`.

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
            let log = logging.start();
            let code = kraft::server::run(*config);
            log.flush();
            exit(code);
        }
    }
}
