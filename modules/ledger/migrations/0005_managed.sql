-- Whether a module looks after the account: then nobody posts to it over HTTP, since what the module knows of it would be wrong.
ALTER TABLE ledger_accounts ADD COLUMN managed BOOLEAN NOT NULL DEFAULT FALSE;
