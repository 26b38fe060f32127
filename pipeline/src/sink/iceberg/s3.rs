//! How a bucket is reached, by the properties that Iceberg clients take.

use opendal::services::S3Config;

/// The settings of a bucket; `get` tells a property.
pub(super) fn settings<'a>(get: impl Fn(&str) -> Option<&'a str>, bucket: &str) -> S3Config {
    let text = |key: &str| get(key).map(str::to_owned);
    let is_set =
        |key: &str| get(key).is_some_and(|value| matches!(value, "true" | "TRUE" | "True" | "1"));
    let mut config = S3Config::default();
    config.bucket = bucket.to_owned();
    config.endpoint = text("s3.endpoint");
    config.region = text("client.region").or_else(|| text("s3.region"));
    config.access_key_id = text("s3.access-key-id");
    config.secret_access_key = text("s3.secret-access-key");
    config.session_token = text("s3.session-token");
    config.role_arn = text("client.assume-role.arn");
    config.external_id = text("client.assume-role.external-id");
    config.enable_virtual_host_style = !is_set("s3.path-style-access");
    config.skip_signature = is_set("s3.allow-anonymous");
    config.disable_config_load = is_set("s3.disable-config-load");
    config.disable_ec2_metadata = is_set("s3.disable-ec2-metadata");
    config
}
