-- Keys that are no secret: a shop's page carries one, and it opens the storefront alone.
ALTER TABLE identity_api_keys ADD COLUMN publishable BOOLEAN NOT NULL DEFAULT FALSE;
-- JSON: the origins whose pages may use it, ["https://shop.example"]; none: any.
ALTER TABLE identity_api_keys ADD COLUMN origins TEXT NOT NULL DEFAULT '[]';
