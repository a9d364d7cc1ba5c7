-- Exchange rates of the platform: what one unit of the base buys of each currency.
CREATE TABLE payments_rates (
  currency TEXT NOT NULL PRIMARY KEY,
  base TEXT NOT NULL,
  nanos BIGINT NOT NULL,
  at BIGINT NOT NULL,
  fetched_at BIGINT NOT NULL
);
