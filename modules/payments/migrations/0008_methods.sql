-- The stored method that a payment is made with: its token is read when the payment is confirmed.
ALTER TABLE payments_intents ADD COLUMN method_id BIGINT;
