-- The sample shop's own tables, apart from everything else on the server.
CREATE SCHEMA IF NOT EXISTS shop;

CREATE TABLE IF NOT EXISTS shop.shop_order (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('created', 'confirmed', 'failed')),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
