-- Tax that a line's price contains already. Lines may be charges from here on.
ALTER TABLE orders_lines ADD COLUMN included_tax_minor BIGINT NOT NULL DEFAULT 0;
