//! Numbers of `linux/netfilter.h` and `linux/netfilter/nf_tables.h` that our table needs.

pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 16;
pub(super) const BATCH_END: u16 = 17;

/// `NFPROTO_*`.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

/// `NFT_MSG_*`, with the subsystem in the upper byte.
pub(super) mod message {
    use super::SUBSYSTEM;

    pub(in crate::nft) const NEW_TABLE: u16 = SUBSYSTEM << 8;
    pub(in crate::nft) const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
    pub(in crate::nft) const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
    pub(in crate::nft) const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
    pub(in crate::nft) const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
    pub(in crate::nft) const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
    pub(in crate::nft) const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
    pub(in crate::nft) const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
    pub(in crate::nft) const GET_SET: u16 = SUBSYSTEM << 8 | 10;
    pub(in crate::nft) const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
    pub(in crate::nft) const GET_ELEMENT: u16 = SUBSYSTEM << 8 | 13;
    pub(in crate::nft) const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
    pub(in crate::nft) const NEW_GENERATION: u16 = SUBSYSTEM << 8 | 15;
}

/// `NFTA_TABLE_*`, `NFT_TABLE_F_*`.
pub(super) mod table {
    pub(in crate::nft) const NAME: u16 = 1;
    pub(in crate::nft) const FLAGS: u16 = 2;
    pub(in crate::nft) const USERDATA: u16 = 6;
    pub(in crate::nft) const OWNER: u16 = 7;
    pub(in crate::nft) const FLAG_OWNER: u32 = 2;
    pub(in crate::nft) const FLAG_PERSIST: u32 = 4;
}

/// `NFTA_CHAIN_*`, `NFTA_HOOK_*`.
pub(super) mod chain {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 3;
    pub(in crate::nft) const HOOK: u16 = 4;
    pub(in crate::nft) const POLICY: u16 = 5;
    pub(in crate::nft) const TYPE: u16 = 7;
    pub(in crate::nft) const HOOK_NUMBER: u16 = 1;
    pub(in crate::nft) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`, `NFTA_EXPR_*`.
pub(super) mod rule {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const CHAIN: u16 = 2;
    pub(in crate::nft) const EXPRESSIONS: u16 = 4;
    pub(in crate::nft) const USERDATA: u16 = 7;
    pub(in crate::nft) const LIST_ELEMENT: u16 = 1;
    pub(in crate::nft) const EXPR_NAME: u16 = 1;
    pub(in crate::nft) const EXPR_DATA: u16 = 2;
}

/// `NFTA_SET_*`, `NFTA_SET_DESC_*`, `NFTA_SET_FIELD_*`, `NFT_SET_*`.
pub(super) mod set {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_TYPE: u16 = 4;
    pub(in crate::nft) const KEY_LENGTH: u16 = 5;
    pub(in crate::nft) const DATA_TYPE: u16 = 6;
    pub(in crate::nft) const DATA_LENGTH: u16 = 7;
    pub(in crate::nft) const DESCRIPTION: u16 = 9;
    pub(in crate::nft) const ID: u16 = 10;
    pub(in crate::nft) const USERDATA: u16 = 13;
    pub(in crate::nft) const FLAG_INTERVAL: u32 = 4;
    pub(in crate::nft) const FLAG_MAP: u32 = 8;
    pub(in crate::nft) const FLAG_CONCAT: u32 = 0x80;
    pub(in crate::nft) const DESCRIPTION_CONCAT: u16 = 2;
    pub(in crate::nft) const FIELD_LENGTH: u16 = 1;
}

/// `NFTA_SET_ELEM_*`, `NFTA_SET_ELEM_LIST_*`, `NFTA_DATA_*`.
pub(super) mod element {
    pub(in crate::nft) const LIST_TABLE: u16 = 1;
    pub(in crate::nft) const LIST_SET: u16 = 2;
    pub(in crate::nft) const LIST_ELEMENTS: u16 = 3;
    pub(in crate::nft) const KEY: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_END: u16 = 10;
    pub(in crate::nft) const FLAG_INTERVAL_END: u32 = 1;
    pub(in crate::nft) const VALUE: u16 = 1;
    pub(in crate::nft) const VERDICT: u16 = 2;
    pub(in crate::nft) const VERDICT_CODE: u16 = 1;
}
