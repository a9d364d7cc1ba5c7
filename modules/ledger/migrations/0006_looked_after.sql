-- Accounts that modules had opened before they said that they look after them.
UPDATE ledger_accounts SET managed = TRUE
WHERE managed = FALSE AND (code LIKE 'wallets:%' OR code LIKE 'payments:clearing:%' OR code LIKE 'payments:merchant:%'
  OR code LIKE 'payments:reserve:%' OR code LIKE 'payments:payouts:%' OR code LIKE 'payments:platform_fees:%' OR code LIKE 'payments:fees_borne:%');
