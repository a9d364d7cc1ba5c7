-- Accounts that modules had opened before they said that they look after them.
UPDATE ledger_accounts SET managed = TRUE
WHERE managed = FALSE AND (code LIKE 'wallets:%' OR code LIKE 'payments:clearing:%' OR code LIKE 'payments:merchant:%'
  OR code LIKE 'payments:reserve:%' OR code LIKE 'payments:platform_fees:%' OR code LIKE 'payments:fees_borne:%');

-- As payments opens them: nobody can change them any more.
UPDATE ledger_accounts SET may_go_negative = TRUE, negative_limit_minor = NULL
WHERE code LIKE 'payments:clearing:%' OR code LIKE 'payments:merchant:%' OR code LIKE 'payments:reserve:%'
  OR code LIKE 'payments:platform_fees:%' OR code LIKE 'payments:fees_borne:%';
