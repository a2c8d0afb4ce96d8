//! Native events of a guild: Guild Scheduled Events, of the kind that takes place elsewhere.
//!
//! <https://docs.discord.com/developers/resources/guild-scheduled-event>

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Bot};
use crate::notify::NotifyError;

/// `GuildScheduledEventStatuses`.
pub const SCHEDULED: u64 = 1;
pub const ACTIVE: u64 = 2;
pub const COMPLETED: u64 = 3;
pub const CANCELED: u64 = 4;

/// How long nothing is made where a guild has as many events as it may have (30038).
const FULL_REST: std::time::Duration = std::time::Duration::from_mins(60);

/// The scheduled events of one guild.
#[derive(Clone, Debug)]
pub struct Guild {
    bot: Bot,
    id: u64,
}

/// One of them, as Discord has it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: String,
    pub name: String,
    /// As text: Discord adds an offset and fractions to what it was given.
    pub start: String,
    pub status: u64,
    /// The bot made it.
    pub own: bool,
}

impl Guild {
    pub fn new(bot: Bot, id: u64) -> Guild {
        Guild { bot, id }
    }

    /// All events of the guild, of whoever made them.
    pub async fn list(&self) -> Result<Vec<Listed>, NotifyError> {
        let me = self.bot.call(Method::GET, "/users/@me", None).await?;
        let me = me.accepted()?["id"].clone();
        let answer = self.bot.call(Method::GET, &self.path(""), None).await?;
        let listed = |event: &Value| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            Listed {
                id: text("id"),
                name: text("name"),
                start: text("scheduled_start_time"),
                status: event["status"].as_u64().unwrap_or_default(),
                own: event["creator_id"] == me,
            }
        };
        Ok(answer.accepted()?.as_array().into_iter().flatten().map(listed).collect())
    }

    /// Makes an event; gives its id.
    pub async fn create(&self, body: &Value) -> Result<String, NotifyError> {
        let answer = self.write(Method::POST, "", body).await?;
        if answer.code() == Some(30038) {
            return Err(NotifyError::Retry {
                after: Some(FULL_REST),
                reason: "the server has as many scheduled events as it may have".to_owned(),
            });
        }
        Ok(accepted(&answer)?["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Changes an event. False when there is no such event (any more), or it is over.
    pub async fn edit(&self, id: &str, body: &Value) -> Result<bool, NotifyError> {
        there(&self.write(Method::PATCH, id, body).await?)
    }

    /// A picture that Discord does not take costs the picture, not what else is said.
    async fn write(&self, method: Method, id: &str, body: &Value) -> Result<Answer, NotifyError> {
        let answer = self.bot.call(method.clone(), &self.path(id), Some(body)).await?;
        let mut bare = body.clone();
        let image = bare.as_object_mut().and_then(|body| body.remove("image"));
        match answer.accepted() {
            Err(NotifyError::Permanent { .. }) if image.is_some() => {
                self.bot.call(method, &self.path(id), Some(&bare)).await
            }
            _ => Ok(answer),
        }
    }

    /// Says that an event is going on, over or off.
    pub async fn set_status(&self, id: &str, status: u64) -> Result<bool, NotifyError> {
        self.edit(id, &json!({ "status": status })).await
    }

    /// The status of an event; none when there is no such event (any more).
    pub async fn status(&self, id: &str) -> Result<Option<u64>, NotifyError> {
        let answer = self.bot.call(Method::GET, &self.path(id), None).await?;
        Ok(there(&answer)?.then(|| answer.json["status"].as_u64()).flatten())
    }

    /// Removes an event. False when it is gone already.
    pub async fn delete(&self, id: &str) -> Result<bool, NotifyError> {
        there(&self.bot.call(Method::DELETE, &self.path(id), None).await?)
    }

    fn path(&self, id: &str) -> String {
        let slash = if id.is_empty() { "" } else { "/" };
        format!("/guilds/{}/scheduled-events{slash}{id}", self.id)
    }
}

/// Whether what was asked about is there.
fn there(answer: &Answer) -> Result<bool, NotifyError> {
    match answer.code() {
        // Unknown Guild Scheduled Event; Cannot update a finished event.
        Some(10070 | 180_000) => Ok(false),
        _ => accepted(answer).map(|_| true),
    }
}

fn accepted(answer: &Answer) -> Result<&Value, NotifyError> {
    match answer.code() {
        // Missing Permissions.
        Some(50013) => Err(NotifyError::ReceiverGone {
            reason: "the bot may not make events in this server: give it Create Events (HTTP 403, \
                     50013)"
                .to_owned(),
            for_good: false,
        }),
        _ => answer.accepted(),
    }
}
