//! `client_secret_post`: identifier and secret in the form (RFC 6749, 2.3.1).

use super::endpoint::Form;
use crate::secret::Secret;

pub(super) fn add(form: &mut Form, id: &str, secret: &Secret<String>) {
    form.add("client_id", id);
    form.add("client_secret", secret.expose());
}
