//! beadle reads calendar feeds and tells people what is new, changed, cancelled or about to start.
//! What it does for its users is in README.md; this is how.
//!
//! ```text
//!  config.toml ─► config::Config (checked once)        app: one `now` per wake, read nowhere else
//!
//!   feed URL ─┐             POLL, per feed, when its time has come: Pipeline::poll
//!             ▼
//!     fetch::Fetcher      conditional GET ─► not modified | body | error              I/O
//!     calendar::scan      bytes ─► slices, and a fingerprint of each                  pure
//!     calendar::parse     slices with an unknown fingerprint ─► Event, Warning        pure
//!     lookup::Site        events ─► what the feed's site says of them                 I/O
//!     calendar::diff      what is known, what was read ─► Change                      pure
//!     plan::changes       Change, Watch ─► Planned                                    pure
//!     Store::commit_poll  feed, events, outbox rows: one transaction                  I/O
//!             │
//!             │             ROUND, when something is due: Pipeline::tick
//!     calendar::recur     events, window ─► Occurrence                                pure
//!     plan::reminders     … and digest, welcome ─► Planned                            pure
//!     Store::commit_due   outbox rows, and up to when all has fallen due              I/O
//!     Store::write_ahead  rows of the reminders of the next two minutes               I/O
//!             ▼
//!   ═══ outbox: one row for each message and address; its id is the dedup key ═══
//!             │             Pipeline::deliver
//!     Store::claim_due    rows that are due, under a lease                            I/O
//!     Notifier::render    Notification ─► Payloads, kept before the first attempt     pure
//!     Notifier::send      one attempt ─► Receipt | NotifyError                        I/O
//!     Store::settle       sent | put off until (retry) | dead | superseded | expired  I/O
//!
//!                         MIRROR, when the events have changed or time asks for it
//!     Store::shown        what stands in Discord and is kept up to date               I/O
//!     mirror              what is shown, what should be ─► edits, agendas, events     I/O
//! ```
//!
//! | module | what it hides |
//! |---|---|
//! | [`app`] | the three loops, signals, the clock; nothing else reads the time |
//! | [`systemd`], [`alive`] | the service manager and the dead-man ping |
//! | [`guard`], [`tls`] | where feeds may lead, and whom to trust |
//! | [`web`] | the HTTP server: liveness, readiness, and the [`metrics`] |
//! | [`progress`] | whether the loops make progress |
//! | [`pipeline`] | the flow above, as calls; start reading here |
//! | [`config`] | the TOML file, its errors with line and hint, where secrets are kept |
//! | [`fetch`] | one request within limits, what servers ask for, when to poll next |
//! | [`lookup`] | what the feed's site says of an event and the feed does not |
//! | [`calendar`] | everything feeds get wrong; from bytes to [`Change`](calendar::diff::Change)s |
//! | [`plan`] | watches, reminders, digests: who is told what, when, under which dedup key |
//! | [`message`] | the words; escapes and limits of each medium |
//! | [`store`] | the database, the states of a delivery and every legal transition |
//! | [`notify`] | Discord, mail, terminal; what each answer of a server means |
//! | [`operator`] | what whoever runs it is told of parked receivers, dead messages, feeds that stay away |
//! | [`mirror`] | what is shown in Discord, compared with what should be and brought into line |
//! | [`interactions`] | slash commands: how they come in, what is looked up, what is answered |
//! | [`retry`] | when to try again |
//! | [`doctor`] | what could keep beadle from telling people |
//! | [`commands`] | what the command line asks besides `run` and `once` |
//!
//! # A new event
//!
//! 1. [`Pipeline::poll`](pipeline::Pipeline::poll) fetches the feed. The body holds a slice whose
//!    fingerprint is not among those kept from the last poll; only this slice is parsed.
//! 2. [`diff`](calendar::diff::diff) finds an event of which nothing was told. It is not told now
//!    either: the row is written with `since`, and the next poll comes after the feed's `settle`.
//! 3. That poll finds it still there. A [`Change`](calendar::diff::Change) of kind `New` goes to
//!    [`plan::changes`], which asks each watch whether the event is its business and makes one
//!    [`Planned`](plan::Planned) for each receiver.
//! 4. The event, now known as told, and a row for each address of the receiver are committed
//!    together. The row's id is a hash of the address and the dedup key, so that the same news can
//!    enter once only.
//! 5. The loop that delivers is woken, claims the row, renders it, keeps the bytes, and hands them
//!    to the [`Notifier`](notify::Notifier). The receipt is recorded with the row.
//! 6. Its reminders are nowhere yet. They are computed from the events as they are, and computed
//!    anew when these change. Each is written into the outbox within the two minutes before it is
//!    due, so that thousands can fall due at one instant and be late by milliseconds.
//!
//! # A moved event
//!
//! The Events Calendar puts start and end into the UID, so an event that moves leaves the feed and
//! another one enters it.
//!
//! 1. The old row is absent, the new slice is unknown. [`identity`](calendar::identity) pairs them:
//!    the UIDs share their steady part (else: the address, else title, organiser and nearness).
//! 2. The row keeps its key and takes the new text; `told` still holds the old one. Once settled,
//!    the difference between `told` and `seen` is one `Rescheduled`, with both times.
//! 3. Reminders of the old time vanish with it; those written ahead are taken back. One that has
//!    fallen due is compared with the events once more before it is sent, where these have changed,
//!    and superseded.
//! 4. Reminders of the new time have another dedup key, so they are sent although some of the old
//!    time were.
//!
//! # A crash while sending
//!
//! 1. Before the attempt the row is `Leased` and holds the exact bytes. The process dies; whether
//!    the server took the message is not known.
//! 2. At the next start [`Store::recover`](store::Store::recover) lets the lease run out. The row is
//!    claimed again, and the same bytes are sent.
//! 3. A bot's message carries a nonce made of the row's id, with `enforce_nonce`: within some
//!    minutes Discord answers with the message it already has. Later than that, the channel is asked
//!    first whether a message of the bot since then says the same. A mail has the same Message-ID. A
//!    webhook has nothing of the kind, nor has the first post of a forum thread: these may be there
//!    twice.
//! 4. An attempt that outlived its lease cannot settle the row: the number of the attempt is part of
//!    the condition.
//!
//! # Promises, and the tests that hold them
//!
//! Two of these stand behind most of the others. `year`: the pipeline and the store live through
//! years under a pretended clock, with all that goes wrong in a year, and an oracle that knows only
//! what is said here (tests/simulation). `kills`: the built program is killed at every piece of its
//! conversations, and at random (tests/crash.rs).
//!
//! | promise | exactly | tests |
//! |---|---|---|
//! | nothing is lost by a crash | after any number of SIGKILLs each message owed has reached each receiver | `kills`: `a_crash_loses_nothing_and_doubles_nothing_that_can_be_recognised`, `stopped_at_any_step_it_loses_and_doubles_nothing` |
//! | nothing is doubled by a crash | by a bot: never, but for the first post of a forum, and where it may not read the channel's history, which `beadle check` says: Discord remembers its nonce for some minutes, and later beadle looks whether the message is there; by a webhook or by mail: once for each kill at most, mail under the same Message-ID | `kills`; `a_crash_longer_ago_than_a_nonce_lives_doubles_nothing_by_bot`, `what_may_have_arrived_is_found_whatever_the_clock_says`, `a_crash_between_sending_and_noting_it_doubles_nothing`, `a_nonce_makes_a_repeat_harmless`, `what_may_have_arrived_is_looked_for_before_it_is_sent_again`, `stopped_at_any_step_it_loses_and_doubles_nothing` |
//! | each reminder is told once to each receiver | when it is due; late, it says so; not at all where its event has begun, and then there is a record | `year`: `a_year_of_mishaps_loses_nothing_and_repeats_nothing`; `each_lead_is_told_once_whatever_the_clocks_do` |
//! | none for what is not so | not for a cancelled event, not for a time that is no longer true as of the last reading | `year`; `what_is_cancelled_or_gone_is_not_reminded_of`, `what_was_written_ahead_is_written_anew_when_its_event_changes`, `a_move_found_after_a_reminder_fell_due_takes_it_back` |
//! | each change that lasts is told once | one that stood at two readings; what flaps is not told | `year`; `a_change_is_told_when_it_has_settled` |
//! | the last thing told of an event is what is so | once everything in the outbox is settled; an earlier change of the same event goes first | `year`; `a_change_is_not_told_before_an_earlier_one_of_the_same_event` |
//! | nothing is early, and little is late | what falls due can be sent some milliseconds later, however much falls due with it and whatever is being sent: `cargo bench --bench punctual` | `each_lead_is_told_once_whatever_the_clocks_do`, `a_reminder_stands_in_the_outbox_before_it_is_due_and_goes_at_its_time`, `a_clock_that_is_set_back_makes_nothing_early_that_was_written_ahead`, `a_poll_while_messages_are_sent_loses_no_reminder`, `only_what_a_message_may_wait_for_is_looked_up` |
//! | nothing late is unsaid | past a minute the message begins with it, unless an earlier attempt may have arrived: its bytes stay the same | `year`; `a_message_that_was_held_up_says_that_it_is_late`, `what_waited_behind_slow_messages_says_that_it_is_late_or_expires` |
//! | an id means one thing | a dedup id is never used for another meaning | `year` |
//! | the clock may be wrong | set back, set forward, suspended, a year ahead for a moment: nothing twice (but a reminder whose event was renamed before its time came once more), nothing skipped that is still to come | `year`; `a_clock_that_jumps_repeats_nothing_and_loses_nothing`, `a_clock_put_right_brings_back_what_it_had_skipped`, `a_clock_put_right_keeps_nothing_waiting`, `what_was_written_ahead_is_judged_before_it_is_claimed`, `a_watermark_that_goes_back_takes_nothing_back`, `a_feed_is_polled_at_its_time_whatever_the_clock_does_meanwhile` |
//! | a sick feed changes nothing | error pages, empty bodies, bodies cut at any byte: no notice, no reminder less | `year`; `a_sick_feed_changes_nothing`, `a_cut_answer_neither_hides_nor_delays_reminders`, `what_half_an_answer_said_and_the_next_takes_back_is_not_gone` |
//! | gone is told on proof only | absent from two complete readings, most of a feed only after a day | `year`; `no_window_flap_or_cut_withdraws_what_is_on`, `half_an_answer_is_no_second_proof_of_an_absence`, `absence_is_told_after_two_readings_half_an_hour_apart`, `an_emptied_feed_is_held_back_for_a_day` |
//! | the first reading is quiet | a welcome at most, a cut reading is none | `the_first_reading_is_a_baseline`, `a_first_reading_that_is_cut_is_no_baseline` |
//! | a pause makes no flood | of several leads missed the last, of digests the newest, many changes as one list; what is dropped is counted | `year`; `three_days_away_make_no_flood`, `after_a_pause_only_the_newest_lead_is_told_and_none_that_is_too_late`, `of_missed_digests_the_newest_is_sent`, `six_changes_at_once_are_one_message` |
//! | a webhook keeps the side that was chosen | of what may have arrived: `resend`: none is lost, and one is doubled at most for each attempt in doubt, which are counted; `hold`: none is doubled, and each is kept with the reason | `kills`; `stopped_at_any_step_it_loses_and_doubles_nothing`, `a_webhook_resends_or_holds_what_may_have_arrived` |
//! | each recipient is on its own | refused, put off or doubtful, it is so for that one only; a mail of which nobody knows twice is not sent a third time but kept with the reason | `of_four_recipients_each_has_its_own_fate`, `one_recipient_refused_keeps_nothing_from_the_others`, `a_mail_whose_fate_is_unknown_is_doubled_once_at_most_and_under_one_name`, `a_mail_whose_fate_stays_unknown_is_sent_twice_and_then_kept` |
//! | one poison item blocks nothing | it is dead, and the others go on | `year`; `a_panic_costs_one_message`, `what_is_refused_is_kept_and_can_be_revived` |
//! | a closed door is left alone | tried every hour, and all that waited goes out when it opens | `year`; `a_channel_that_is_closed_is_left_alone_for_an_hour_and_others_go_on`, `a_channel_that_is_open_again_gets_all_that_waited` |
//! | rate limits are obeyed | a message is not tried before the time the server named, and neither are those behind it; an hour of refusals costs fewer than a hundred requests | `an_hour_of_refusals_is_asked_about_less_than_a_hundred_times`, `a_rate_limit_only_delays`, `after_a_rate_limit_the_channel_is_left_alone_and_the_order_kept` |
//! | a full or locked disk never lies | nothing is sent that is not written down; it says what to do, and goes on without a restart | `a_full_disk_is_said_and_nothing_is_lost`, `what_was_written_ahead_outlasts_a_database_that_refuses`, `a_locked_database_is_waited_for`, `a_disk_without_room_is_said_and_what_waits_is_told_once_there_is_some` |
//! | state that cannot be trusted is refused | with what to do, and left as it is | `a_damaged_database_is_refused_and_left_as_it_is`, `the_state_of_a_newer_beadle_is_refused_with_what_to_do`, `a_state_folder_that_cannot_be_written_is_said_at_the_start`, `a_database_damaged_while_it_is_used_ends_the_run_and_nothing_is_sent` |
//! | an update takes over what is there | a state of every released schema, with something in each of its tables | `a_state_of_every_released_schema_is_taken_over`, `the_schema_is_the_one_that_is_written_down` |
//! | two instances are safe | the second on one state folder is refused, and an attempt that outlived its lease settles nothing | `a_second_beadle_on_the_same_state_is_refused`, `an_attempt_whose_lease_was_taken_over_settles_nothing` |
//! | zones may change | new zone data, or another zone for times without one, moves reminders and is no news | `new_zone_data_moves_reminders` |
//! | a known feed looked at anew tells nothing old | a watch or receiver that comes to it, or a wider filter | `a_watch_widened_on_a_known_feed_tells_nothing_old`, `the_first_reading_is_a_baseline` |
//! | the state stays small | what is over is forgotten, what was sent after 400 days: 7 MB after each of five years with an event a day | `five_years_leave_a_small_file` |
//! | a new configuration is taken up whole or not at all | at a signal: what is being sent ends under the old one, and nothing is lost or doubled, but for what takes longer than a minute, which is as after a crash; with a mistake in it nothing is touched, and nothing is started; a receiver that is no longer in it gets nothing more | `fifty_reloads_lose_nothing_and_double_nothing`, `a_mistake_in_the_configuration_touches_nothing`, `a_receiver_taken_out_of_the_configuration_gets_nothing_more` |
//! | an old backup repeats nothing | by `beadle restore`; a file that was copied back by hand may repeat what it does not know of. What changed since it was made, and was not told yet, is passed over | `year`; `a_restored_backup_tells_nothing_twice`, `a_restored_backup_holds_back_no_reminder_that_was_written_ahead` |
//!
//! # Invariants, and the tests that hold them
//!
//! | | |
//! |---|---|
//! | no bytes make the calendar panic | `no_bytes_make_it_panic`, `no_lines_make_it_panic`, `no_text_makes_it_panic` |
//! | one bad line costs that line, one bad event that event | `bad_lines`, `bad_dates`, `events_that_cannot_be_read_are_not_absent` |
//! | form does not matter: order, folds, stamps | `form_does_not_matter`, `the_same_feed_is_no_change_in_any_order` |
//! | a failed, cut or emptied feed removes nothing | `half_an_answer_removes_nothing`, `an_emptied_feed_is_held_back_for_a_day`, `a_feed_cut_anywhere_is_not_complete`, `a_sick_feed_changes_nothing` |
//! | a moved event is moved, not removed and added | `a_moved_event_with_a_new_uid_is_rescheduled`, `a_moved_event_keeps_its_identity` |
//! | a cancellation that only the site knows is told | `a_cancelled_event_is_told_with_its_reason_and_back_on`, `a_disappearance_is_settled_before_it_is_told` |
//! | what the site does not answer changes nothing | `what_the_site_leaves_out_stays_as_it_was`, `a_site_that_could_not_be_asked_at_first_is_believed_later` |
//! | what was so before beadle looked is not told | `the_first_reading_is_a_baseline`, `what_was_off_from_the_beginning_is_not_told`, `another_calendar_under_the_same_name_is_read_anew`, `what_is_made_after_an_empty_answer_is_new` |
//! | over 27 recorded exports, what an attentive person would say | `notices_are_what_an_attentive_person_would_say` |
//! | instants are right through daylight saving, by two implementations | `wall_times_in_gaps_and_folds`, `two_implementations_agree`, `daylight_saving` |
//! | a feed is asked as its server wishes, and says where it has moved for good | `validators_go_back_and_bring_304`, `a_good_poll_waits_as_long_as_anyone_asks`, `a_failing_feed_is_asked_less_and_less`, `a_feed_that_has_moved_for_good_is_read_and_said_to_have_moved` |
//! | a hostile rule costs bounded time, and other events nothing | `hostile_rules_end_soon_with_a_warning`, `what_a_hostile_rule_costs_is_counted`, `an_exception_of_every_second_takes_nothing_from_other_events` |
//! | a hostile feed takes no memory, and no time of other feeds | `events_without_number_take_no_memory`, `lines_without_number_take_no_memory`, `lists_of_one_event_are_bounded`, `a_body_that_unpacks_to_far_more_is_refused_and_takes_no_memory`, `a_feed_that_dawdles_keeps_no_other_waiting`, `time_is_limited_over_the_whole_attempt`, `too_much_is_refused_before_it_has_come`, `compression_is_taken_off_once_and_only_to_the_limit`, `huge_lines_and_deep_nesting_end_soon` |
//! | events and their messages become visible together | `events_and_messages_are_kept_together_or_not_at_all` |
//! | Discord's limits are kept, and used | `two_hundred_channels_get_nearly_all_that_the_limits_allow`, `within_the_limits_nothing_is_lost_or_doubled`, `invalid_requests_stop_long_before_the_address_is_shut_out` |
//! | one busy channel delays no other | `one_busy_channel_delays_no_other`, `each_endpoint_gives_one_before_any_gives_two` |
//! | the operator is told of what needs mending, once | `a_parked_receiver_is_told_once_and_so_is_its_return`, `a_return_is_told_when_something_was_taken`, `dead_messages_are_told_once_a_day_and_reason`, `a_feed_that_stays_away_is_told_once_and_so_is_its_return` |
//! | what belongs to a message (a thread, its publication) is done once the message is there | `what_belongs_to_a_message_is_done_until_it_is_done` |
//! | a message of several parts arrives whole and in order | `a_long_digest_arrives_whole_and_in_order` |
//! | every request is one that Discord takes, by its own description | `any_text_keeps_within_discord`, and the stand-in of all tests |
//! | what is shown follows the events, and is never doubled by a crash | `stopped_at_any_step_it_shows_once_what_is_so`, `a_change_edits_the_announcement_and_is_a_reply_to_it`, `an_agenda_that_may_have_been_posted_before_a_crash_is_found_again`, `an_event_made_before_a_crash_is_found_again`, `what_was_made_after_a_backup_is_found_after_its_restoring` |
//! | an edit that has to wait holds up no other message | `an_edit_that_waits_keeps_no_other_message_waiting` |
//! | what the invitation asks for is what `check` looks for | `the_invitation_and_check_agree` |
//! | a change that is told by an edit is told | `an_edit_alone_tells_a_change_without_a_message`, `an_announcement_removed_by_hand_is_let_go_and_the_change_told_by_a_message`, `an_edit_that_is_refused_is_told_by_a_message` |
//! | each status of a server has its meaning | `every_answer_of_discord_has_its_class`, `every_answer_of_a_mail_server_has_its_class` |
//! | one recipient, one receiver, one message: a failure stays there | `each_recipient_stands_alone`, `a_panic_costs_one_message` |
//! | a person is reminded once, of an event as it is then | `a_reminder_comes_by_direct_message_and_once`, `a_moved_event_moves_its_reminder_and_a_cancelled_one_is_told_once` |
//! | what is paused is silent, also later | `a_paused_watch_is_silent_and_tells_nothing_later` |
//! | only managers manage, only Discord posts | `only_managers_of_the_configured_server_manage`, `only_what_discord_signed_lately_is_genuine` |
//! | feed text stays text | `any_text_keeps_within_discord`, `any_text_stays_text_in_mail`, `any_text_is_harmless_in_a_terminal`, `hostile_text_stays_inside_its_header` |
//! | a secret is not shown | `no_secret_is_ever_shown`, `debug_does_not_show_the_value`, `secrets_are_never_quoted`, `unusable_secrets_are_not_sent_and_not_shown`, `a_login_is_given_and_kept_secret` |
//! | a feed leads to public addresses only | `every_address_has_its_class`, `a_feed_leads_to_public_addresses_only`, `a_redirect_is_looked_at_like_the_address_itself`, `the_addresses_that_were_looked_at_are_the_ones_connected_to`, `a_page_leads_only_where_the_feed_may_ask`, `a_picture_is_asked_for_only_where_the_feed_may_lead` |
//! | only a server that proves its name is spoken to | `an_authority_of_ones_own_is_trusted_when_it_is_named`, `a_certificate_that_is_over_or_of_another_host_is_refused`, `a_mail_server_is_checked_as_far_as_the_login` |
//! | what stands still is seen | `a_stuck_loop_is_not_healthy`, `a_stuck_loop_stops_the_ping`, `a_stuck_loop_keeps_the_sign_of_life_from_the_watchdog`, `systemd_and_monitoring_hear_of_a_run` |
//! | a stop ends what has begun, and begins nothing | `a_stop_gives_back_what_has_not_begun_and_ends_what_has`, `a_stop_waits_for_a_silent_server_twenty_seconds_at_most` |
//! | passcodes are hidden from those who may not see them | `passcodes_are_hidden`, `passcodes_are_shown_only_to_those_who_may_see_them` |
//! | the example works, and nothing typed into it makes it panic | `the_example_is_valid_and_needs_no_secret`, `no_edit_of_the_example_makes_it_panic` |

pub use beadle_calendar as calendar;

pub mod alive;
pub mod app;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod fetch;
pub mod guard;
pub mod interactions;
pub mod lookup;
pub mod message;
pub mod metrics;
pub mod mirror;
pub mod notify;
pub mod operator;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod retry;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod web;
