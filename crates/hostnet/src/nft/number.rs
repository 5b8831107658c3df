//! Numbers of `linux/netfilter.h` and `linux/netfilter/nf_tables.h` that our table needs.

pub(crate) const SUBSYSTEM: u16 = 10;
pub(crate) const BATCH_BEGIN: u16 = 16;
pub(crate) const BATCH_END: u16 = 17;

/// `NFPROTO_*`.
pub(crate) const INET: u8 = 1;
pub(crate) const IPV4: u8 = 2;
pub(crate) const IPV6: u8 = 10;

/// `NFT_MSG_*`, with the subsystem in the upper byte.
pub(crate) mod message {
    use super::SUBSYSTEM;

    pub(crate) const NEW_TABLE: u16 = SUBSYSTEM << 8;
    pub(crate) const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
    pub(crate) const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
    pub(crate) const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
    pub(crate) const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
    pub(crate) const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
    pub(crate) const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
    pub(crate) const DELETE_RULE: u16 = SUBSYSTEM << 8 | 8;
    pub(crate) const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
    pub(crate) const GET_SET: u16 = SUBSYSTEM << 8 | 10;
    pub(crate) const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
    pub(crate) const GET_ELEMENT: u16 = SUBSYSTEM << 8 | 13;
    pub(crate) const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
    pub(crate) const NEW_GENERATION: u16 = SUBSYSTEM << 8 | 15;
}

/// `NFTA_TABLE_*`, `NFT_TABLE_F_*`.
pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const OWNER: u16 = 7;
    pub(crate) const FLAG_OWNER: u32 = 2;
    pub(crate) const FLAG_PERSIST: u32 = 4;
}

/// `NFTA_CHAIN_*`, `NFTA_HOOK_*`.
pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`, `NFTA_EXPR_*`.
pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const POSITION: u16 = 6;
    pub(crate) const USERDATA: u16 = 7;
    pub(crate) const LIST_ELEMENT: u16 = 1;
    pub(crate) const EXPR_NAME: u16 = 1;
    pub(crate) const EXPR_DATA: u16 = 2;
    pub(crate) const COUNTER_BYTES: u16 = 1;
    pub(crate) const COUNTER_PACKETS: u16 = 2;
}

/// `NFTA_SET_*`, `NFTA_SET_DESC_*`, `NFTA_SET_FIELD_*`, `NFT_SET_*`.
pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LENGTH: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LENGTH: u16 = 7;
    pub(crate) const DESCRIPTION: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const USERDATA: u16 = 13;
    pub(crate) const FLAG_INTERVAL: u32 = 4;
    pub(crate) const FLAG_MAP: u32 = 8;
    pub(crate) const FLAG_CONCAT: u32 = 0x80;
    pub(crate) const DESCRIPTION_CONCAT: u16 = 2;
    pub(crate) const FIELD_LENGTH: u16 = 1;
}

/// `NFTA_SET_ELEM_*`, `NFTA_SET_ELEM_LIST_*`, `NFTA_DATA_*`.
pub(crate) mod element {
    pub(crate) const LIST_TABLE: u16 = 1;
    pub(crate) const LIST_SET: u16 = 2;
    pub(crate) const LIST_ELEMENTS: u16 = 3;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_END: u16 = 10;
    pub(crate) const FLAG_INTERVAL_END: u32 = 1;
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;
}
