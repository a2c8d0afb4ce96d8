//! The slash commands that Discord lists of the bot's application.
//!
//! <https://docs.discord.com/developers/interactions/application-commands>

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Bot, gone, text};
use crate::config;
use crate::notify::NotifyError;

/// One of Discord's lists of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandList {
    path: String,
}

impl CommandList {
    /// That of the configured server; without one, that of all the bot is in.
    pub async fn of(bot: &Bot, config: &config::Discord) -> Result<CommandList, NotifyError> {
        let application = match config.application_id {
            Some(id) => id,
            None => own_id(bot).await?,
        };
        let guild = config.guild.map(|guild| format!("/guilds/{guild}")).unwrap_or_default();
        Ok(CommandList { path: format!("/applications/{application}{guild}/commands") })
    }

    /// The one of this path.
    pub fn at(path: &str) -> CommandList {
        CommandList { path: path.to_owned() }
    }

    /// Names the list in Discord's API.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is in it.
    pub async fn get(&self, bot: &Bot) -> Result<Value, NotifyError> {
        self.accepted(&bot.call(Method::GET, &self.path, None).await?)
    }

    /// Puts these in place of all that is in it; gives them as Discord has them now.
    pub async fn put(&self, bot: &Bot, commands: &Value) -> Result<Value, NotifyError> {
        self.accepted(&bot.call(Method::PUT, &self.path, Some(commands)).await?)
    }

    /// Empties it. Where the bot was thrown out there is none any more, and of an application that it
    /// does not belong to it can change none.
    pub async fn clear(&self, bot: &Bot) -> Result<(), NotifyError> {
        let answer = bot.call(Method::PUT, &self.path, Some(&json!([]))).await?;
        match answer.status {
            403 | 404 => Ok(()),
            _ => answer.accepted().map(|_| ()),
        }
    }

    fn accepted(&self, answer: &Answer) -> Result<Value, NotifyError> {
        let guild = self.path.split('/').skip_while(|part| *part != "guilds").nth(1);
        match guild.filter(|_| is_outside(answer)) {
            Some(guild) => Err(gone(format!(
                "the bot is not in the server {guild}, or was invited without the scope \
                 applications.commands: run `beadle discord invite`, and open what it prints"
            ))),
            None => answer.accepted().cloned(),
        }
    }
}

/// Whether the bot has no business in the server: 10004 unknown guild, 50001 missing access.
/// <https://docs.discord.com/developers/topics/opcodes-and-status-codes>
fn is_outside(answer: &Answer) -> bool {
    matches!((answer.status, answer.code()), (400..=499, Some(10004 | 50001)))
}

/// The application that the bot belongs to.
async fn own_id(bot: &Bot) -> Result<u64, NotifyError> {
    let answer = bot.call(Method::GET, "/applications/@me", None).await?;
    let id = text(answer.accepted()?, "id").and_then(|id| id.parse().ok());
    let reason = "Discord does not say which application the bot belongs to".to_owned();
    id.ok_or(NotifyError::Retry { after: None, reason })
}
