//! Why a change is as bad as it is, and what to do instead: one row per change.

use super::History;

pub(super) struct Words {
    pub(super) reason: &'static str,
    pub(super) hint: &'static str,
    /// What a restating change does to what is stored.
    pub(super) history: History,
}

/// The words of a change.
pub(super) fn of(change: &str) -> Words {
    let (reason, hint) = match change {
        "domain_renamed" => (
            "the lake's tables and the Kafka group are named after the domain, so a new one begins",
            "keep the name: write `kind: domain` with `name:` when the folder moves",
        ),
        "unknown_event_changed" => (
            "records of unknown types count otherwise from now on",
            "nothing to do if that is what you want",
        ),
        "event_removed" => (
            "records of this contract are no longer understood: producers get dead letters",
            "keep it with `status: deprecated` until nobody sends it",
        ),
        "event_type_removed" => (
            "records of this type are no longer understood: producers get dead letters",
            "keep the type until nobody sends it",
        ),
        "topic_removed" => (
            "records in that topic are no longer read",
            "keep the topic beside the new one until it is empty",
        ),
        "format_changed" | "envelope_changed" | "time_form_changed" => (
            "records that are written as before are read wrongly or not at all",
            "add a version with the new shape and keep this one for old producers",
        ),
        "event_key_changed" => (
            "published records go out under another key, so their order is another one",
            "add a version with the new key",
        ),
        "required_field_added" | "field_became_required" => (
            "a producer that does not send the field gets dead letters",
            "make it optional, give it a `default`, or add a version that requires it",
        ),
        "bound_tightened" => (
            "a record that was good may be rejected",
            "add a version with the new bound, or make it a rule of severity `warning` first",
        ),
        "rule_added" | "rule_changed" => (
            "a record that was good may be rejected",
            "add a version with the rule, or give it severity `warning` first",
        ),
        "field_removed" | "column_removed" => (
            "whoever reads it finds nothing",
            "keep it, or add a version without it and deprecate this one",
        ),
        "type_changed" | "value_type_changed" | "dimension_type_changed" => (
            "readers parse another type; stored values of the old type would be lost",
            "add a version with the new type, or a new field beside the old one",
        ),
        "pii_changed" => (
            "who may see the value, and whether it is erased, changes at once",
            "tell whoever answers for personal data, then allow it",
        ),
        "entity_removed" => (
            "whoever reads the entity finds nothing",
            "keep it with `status: deprecated` until nobody reads it",
        ),
        "key_renamed" => (
            "the key is shown under another name",
            "add a version with the new name and deprecate this one",
        ),
        "metric_removed" => (
            "whoever reads it gets an error",
            "keep it with `deprecated: {since: DAY, sunset: DAY, use: …}` until nobody reads it",
        ),
        "dimension_removed" => (
            "questions that filter or group by it get an error",
            "keep it, or add a version without it and deprecate this one",
        ),
        "window_removed" => (
            "questions with this window get an error",
            "keep it, or add a version without it and deprecate this one",
        ),
        "cardinality_lowered" => (
            "a grouped question that was answered in full may not be any more",
            "leave the limit as it was, or add a version with the new one",
        ),
        "unit_changed" => (
            "the same number means something else to whoever shows it",
            "add a version with the new unit and deprecate this one",
        ),
        "where_changed" | "measure_changed" | "time_changed" | "on_empty_changed"
        | "dimension_changed" => (
            "the same name and version gives other numbers, also for the past",
            "add a version with the new meaning and keep this one beside it",
        ),
        "source_changed" | "fold_changed" | "closes_changed" => (
            "it is folded or counted from other rows, so what stands on it moves, also for the past",
            "add a version with the new meaning and keep this one beside it",
        ),
        "parts_changed" => (
            "it is made of other metrics, or of another version of them, so its numbers move",
            "mark the new version of the part `deprecated` to keep this one where it is, or add a \
             version of this one",
        ),
        "enrich_changed" => (
            "the column is computed again for all stored events, and what reads it moves",
            "add a column under another name, or a version of the contract",
        ),
        "lookup_changed" => (
            "events from now on get another value; what was looked up before stays",
            "add a column under another name",
        ),
        "dedup_changed" | "time_policy_changed" => (
            "other events count from now on; those that are stored are not judged again",
            "add a version of the event contract if old producers must be judged as before",
        ),
        "default_changed" => (
            "events without the field get another value from now on; stored ones keep theirs",
            "add a version of the contract with the new default",
        ),
        "default_version_changed" => (
            "questions that name no version are answered by another one",
            "let readers name the version they mean, or leave `status` as it was",
        ),
        "metric_version_added" => (
            "it answers questions that name no version once it is whole; the one before stays to be \
             asked for",
            "mark the one before `deprecated` with a date when readers should move",
        ),
        "metric_added" | "metric_version_added_aside" | "entity_added" | "entity_version_added" => {
            ("it is made of old rows beside what is there", "nothing to do")
        }
        "event_version_added" => (
            "records that name no version are read by the newest stable one",
            "let producers name their version while both are in use",
        ),
        "event_added" | "event_type_added" | "topic_added" => {
            ("records that were not taken are taken from now on", "nothing to do")
        }
        "field_added" | "column_added" | "dimension_added" | "window_added" => {
            ("there is more to read; what was there stays as it was", "nothing to do")
        }
        "field_became_optional" | "bound_loosened" | "rule_removed" => (
            "records that were rejected are taken from now on",
            "see that readers can live with what they did not get before",
        ),
        "cardinality_raised" => ("grouped answers may be longer", "nothing to do"),
        "status_changed" | "deprecation_changed" => (
            "it goes on as before; readers and producers are told",
            "give a date: `deprecated: {since: DAY, sunset: DAY, use: …}`",
        ),
        "freshness_changed" => ("only the age of cached answers changes", "nothing to do"),
        "lake_layout_changed" => ("files are laid out otherwise from now on", "nothing to do"),
        _ => ("no number changes", "nothing to do"),
    };
    let is_kept = matches!(
        change,
        "unknown_event_changed"
            | "lookup_changed"
            | "dedup_changed"
            | "time_policy_changed"
            | "default_changed"
    );
    let history = if is_kept { History::Kept } else { History::Recomputed };
    Words { reason, hint, history }
}
