-- Whether the values of an attribute are shown to whoever looks at a shop's page, as all of them were so far.
ALTER TABLE catalog_attributes ADD COLUMN storefront BOOLEAN NOT NULL DEFAULT TRUE;
