-- Where a carrier was when it was asked for labels, and with which secrets: a carrier that is set up elsewhere since is asked there for what
-- it sold there. Empty: where it is set up now.
ALTER TABLE shipping_labels ADD COLUMN base_url TEXT NOT NULL DEFAULT '';
ALTER TABLE shipping_labels ADD COLUMN sealed BYTEA;
