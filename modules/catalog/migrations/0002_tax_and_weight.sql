-- What goods are taxed as, and what they weigh and measure. A product's class is that of its variants that have none of their own.
ALTER TABLE catalog_products ADD COLUMN tax_class TEXT;
ALTER TABLE catalog_variants ADD COLUMN tax_class TEXT;
ALTER TABLE catalog_variants ADD COLUMN weight_g BIGINT;
-- All three, or none.
ALTER TABLE catalog_variants ADD COLUMN length_mm BIGINT;
ALTER TABLE catalog_variants ADD COLUMN width_mm BIGINT;
ALTER TABLE catalog_variants ADD COLUMN height_mm BIGINT;
