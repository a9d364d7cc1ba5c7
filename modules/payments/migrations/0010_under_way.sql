-- A provider's run that is under way: there is one at most.
CREATE INDEX payments_runs_under_way ON payments_runs (tenant_id, provider_id) WHERE state IN ('matching', 'marking');
