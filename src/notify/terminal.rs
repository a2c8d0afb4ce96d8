//! Messages on the terminal: what Discord would show, printed.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::{
    BoxFuture, DeliveryContext, Endpoint, Notifier, NotifyError, Payload, Receipt, SetupError,
    discord,
};
use crate::config::Config;
use crate::plan::Notification;

pub(super) fn endpoints(
    config: &Config,
    _http: &discord::Http,
) -> Result<Vec<Endpoint>, SetupError> {
    let receivers = config.receivers.values().filter(|receiver| receiver.terminal);
    Ok(receivers
        .map(|receiver| {
            let stdout = io::stdout();
            let colour = colours(&stdout);
            Endpoint {
                id: format!("{}/terminal", receiver.name),
                receiver: receiver.name.clone(),
                address: String::new(),
                notifier: Arc::new(Terminal::new(
                    Box::new(stdout),
                    receiver.show_passcodes,
                    colour,
                )),
                board: None,
            }
        })
        .collect())
}

/// Whether to write colours: to a terminal, unless NO_COLOR says otherwise (no-color.org).
pub fn colours(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints to a writer, one message at a time.
pub struct Terminal {
    out: Mutex<Box<dyn Write + Send>>,
    show_passcodes: bool,
    colour: bool,
}

impl Terminal {
    /// `colour` allows ANSI colours.
    pub fn new(out: Box<dyn Write + Send>, show_passcodes: bool, colour: bool) -> Terminal {
        Terminal { out: Mutex::new(out), show_passcodes, colour }
    }

    fn print(&self, text: &str) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(out, "{}", text.trim_end_matches('\n'))?;
        out.flush()
    }
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("colour", &self.colour).finish_non_exhaustive()
    }
}

impl Notifier for Terminal {
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload> {
        let style = delivery.style(self.show_passcodes, self.colour);
        vec![Payload(crate::message::terminal::render(notification, &style))]
    }

    /// A broken pipe is [`NotifyError::Retry`]: who reads may come back.
    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        _delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>> {
        Box::pin(async move {
            self.print(&payload.0).map_err(|error| NotifyError::Retry {
                after: None,
                reason: format!("cannot print: {error}"),
            })?;
            Ok(Receipt { remote_id: String::new() })
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        Box::pin(async { Ok("this terminal".to_owned()) })
    }
}
